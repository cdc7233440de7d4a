"""All packages of the peers' environment: another pin is another environment, and ages every number of a peer."""

from benchmarks.peers.part import RECTOOLS

NEWEST_PYTHON = (3, 12)  # that numpy below 2 has wheels for
PINS = (
    f"rectools=={RECTOOLS}",
    # what RecTools trains with
    "torch==2.13.0",
    "pytorch-lightning==2.5.2",
    "lightning-utilities==0.15.3",
    "torchmetrics==1.9.0",
    "numpy==1.26.4",
    "pandas==2.3.3",
    "scipy==1.17.1",
    # what these need
    "aiohappyeyeballs==2.7.1",
    "aiohttp==3.14.5",
    "aiosignal==1.4.0",
    "annotated-types==0.8.0",
    "attrs==23.2.0",
    "fastrlock==0.8.4",
    "filelock==4.3.1",
    "frozenlist==1.8.0",
    "fsspec==2026.9.0",
    "idna==3.20",
    "Jinja2==3.1.6",
    "MarkupSafe==3.0.4",
    "mpmath==1.3.0",
    "multidict==7.2.1",
    "networkx==3.6.1",
    "packaging==26.4",
    "pm-implicit==0.7.3",
    "propcache==0.5.4",
    "pydantic==2.14.4",
    "pydantic_core==2.50.5",
    "python-dateutil==4.0.0",
    "pytz==2026.6",
    "PyYAML==6.0.4",
    "setuptools==84.2.1",
    "sympy==1.14.0",
    "threadpoolctl==3.8.0",
    "tqdm==4.70.1",
    "typeguard==4.6.1",
    "typing-inspection==0.4.5",
    "typing_extensions==4.16.0",
    "tzdata==2026.6",
    "yarl==1.25.1",
)
