"""Publishers' data sets by name: what each is called in a report, and what in `persrec.data.sources` reads it."""

PUBLISHED = (
    ("ml-100k", "MovieLens-100k", "movielens:build_100k"), ("ml-1m", "MovieLens-1M", "movielens:build_1m"),
    ("ml-10m", "MovieLens-10M", "movielens:build_10m"), ("ml-20m", "MovieLens-20M", "movielens:build_20m"),
    ("ml-25m", "MovieLens-25M", "movielens:build_25m"), ("ml-32m", "MovieLens-32M", "movielens:build_32m"),
    ("ml-latest-small", "MovieLens latest-small", "movielens:build_latest_small"),
    ("ml-latest", "MovieLens latest", "movielens:build_latest"), ("ebnerd", "EB-NeRD", "ebnerd:build"),
    ("merrec", "MerRec", "merrec:build"), ("pixelrec", "PixelRec", "pixelrec:build"), ("amazon", "Amazon reviews", "amazon:build"),
    ("kuairand", "KuaiRand", "kuairand:build"), ("online-retail", "Online Retail", "online_retail:build"),
    ("snap", "SNAP temporal edges", "snap:build"),
)  # fmt: skip
