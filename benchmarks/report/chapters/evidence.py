"""Evidence: how cells ended, how far numbers move by themselves, where they come from, and what they do not show."""

from collections.abc import Sequence

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.origins import Source
from benchmarks.noise.record import GateProof, summary
from benchmarks.records import Record
from benchmarks.report.names import Names
from benchmarks.report.peers import Peers
from benchmarks.report.sections import Group, Section, section
from benchmarks.report.tables import endings, provenance, upkeep
from benchmarks.report.tables.noise import noise_tables
from benchmarks.report.tables.training import training_table
from benchmarks.report.texts import NO_A_A


def feasibility_section(groups_of_peers: Sequence[Peers], among: Sequence[Configuration]) -> Section:
    """How each cell ended."""
    statuses = sorted({status for one in among for status in one.statuses}, key=list(endings.STATUS_SIGNS).index)
    signs = ", ".join(f"{endings.STATUS_SIGNS[status][0]} {status}" for status in statuses)
    groups = [
        Group(
            title=peers.title,
            tables=(endings.feasibility_table(peers.everyone, key=f"feasibility-{peers.key}", caption=f"Feasibility, {peers.title}"),),
        )
        for peers in groups_of_peers
    ]
    return section("feasibility", (Group(texts=(f"{signs}.",)), *groups))


def noise_section(among: Sequence[Configuration], names: Names, proof: GateProof | None) -> Section:
    """How far numbers move when nothing changed."""
    tables = noise_tables(among, names)
    texts = [] if tables else ["Neither repeated timings with a spread nor several seeds are in these records."]
    gates = Group(title="The gates, by themselves (A/A)", points=tuple(summary(proof))) if proof else Group(texts=(NO_A_A,))
    return section("noise", (Group(texts=tuple(texts), tables=tuple(tables)), gates))


def failure_section(among: Sequence[Configuration], names: Names) -> Section:
    """What failed, and what could not be measured."""
    failed = endings.failures(among, names)
    missing = endings.missing_table(among)
    texts = () if failed else ("Every cell ended well.",)
    return section("failures", [Group(texts=texts, failures=tuple(failed), tables=(missing,) if missing else ())])


def provenance_section(records: Sequence[Record], every: Sequence[Source], among: Sequence[Configuration], names: Names) -> Section:
    """Machines, data, trainings, and the command for each cell."""
    tables = [provenance.environment_table(every), provenance.dataset_table(records), upkeep.overhead_table(every)]
    folded = [training_table(each_model_once(among), names), provenance.rerun_table(among, names, every)]
    group = Group(tables=tuple(table for table in tables if table), folded=tuple(table for table in folded if table))
    return section("provenance", [group])


def each_model_once(among: Sequence[Configuration]) -> Sequence[Configuration]:
    """Without those that serve another's model from something else, unless there are none but these."""
    return [one for one in among if not one.changed] or among
