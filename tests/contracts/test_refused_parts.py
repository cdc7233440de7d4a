import pytest
from small_models import BACKBONE_NAMES, CASES, WIDTH, build

from persrec.backbones import BackboneSettings, build_backbone
from persrec.compression import CompressionSettings, build_compression
from persrec.compression.experts import Experts
from persrec.items import ItemSettings, build_items
from persrec.layout import Segment, SegmentLayout
from persrec.recommender import SequentialRecommender

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_a_layout_longer_than_the_positions_of_the_backbone(backbone):
    compression = CASES["3 segments"]()
    items = build(backbone, compression).items
    needed = compression.layout.length
    for length in (1, needed - 1):
        short = build_backbone(backbone, BackboneSettings(width=WIDTH, layers=1, heads=2, length=length))
        with pytest.raises(ValueError, match=rf"^backbone: positions for {length} slots; expected {needed}, as the layout has$"):
            SequentialRecommender(items=items, backbone=short, compression=compression)


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match=r"^backbone: unknown 'hsut' \(did you mean 'hstu'\?\); known: hstu, sasrec"):
        build_backbone("hsut", BackboneSettings(width=8, layers=1, heads=1, length=4))
    with pytest.raises(ValueError, match=r"^compression: unknown 'expert' \(did you mean 'experts'\?\); known: experts"):
        build_compression("expert", CompressionSettings(history=4, recent=2, segments=1, tokens=1, width=8))
    with pytest.raises(ValueError, match=r"^backbone: unknown 'hsut' \(did you mean 'hstu'\?\); known: hstu, sasrec"):
        build_items("hsut", ItemSettings(count=4, width=8, layers=1, heads=1))


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
def test_a_width_that_does_not_split_over_the_heads(backbone):
    with pytest.raises(ValueError, match=r"^width: 8 .*3 heads"):
        build_backbone(backbone, BackboneSettings(width=8, layers=1, heads=3, length=4))


@pytest.mark.parametrize("segment", [Segment(items=6, experts=2, stays_visible=True), Segment(items=6, summaries=2)])
def test_experts_refuse_a_layout_of_which_more_than_tokens_is_seen(segment):
    with pytest.raises(ValueError, match=r"^layout: a segment stays visible or holds summaries; expected"):
        Experts(layout=SegmentLayout(segments=(segment,), recent=4), width=WIDTH)
