"""`tenfold metrics`: a campaign's figures for Prometheus, Grafana and trackers of experiments."""

from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, show_lines, verbs

metrics_app = typer.Typer(
    name="metrics",
    help="Give a campaign's figures to Prometheus, Grafana, TensorBoard, Weights & Biases, MLflow or trackio.",
    cls=verbs("show"),
    subcommand_metavar="[show|serve|files] ...",
)


@metrics_app.command()
def show(campaign: CampaignDirectory = HERE) -> None:
    """Print the newest values, as Prometheus reads them (for node_exporter's textfile folder). The default."""
    from tenfold.campaign import metrics_of

    print(metrics_of(campaign), end="")


@metrics_app.command()
def serve(
    campaign: CampaignDirectory = HERE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On loopback; 0 takes a free one.")] = 9107,
) -> None:
    """Answer Prometheus on /metrics until interrupted."""
    from tenfold.campaign import serve_metrics

    serve_metrics(campaign, port)


@metrics_app.command()
def files(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")],
    target: Annotated[str, typer.Option(metavar="HOST:PORT", help="What is scraped.")] = "127.0.0.1:9107",
    as_json: AsJson = False,
) -> None:
    """Write alert rules, a Grafana dashboard and a scrape configuration."""
    from tenfold.campaign import write_metrics_files

    written = [str(path) for path in write_metrics_files(folder, target)]
    show_lines({"files": written}, written, as_json)
