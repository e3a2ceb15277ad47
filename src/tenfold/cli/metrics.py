"""`tenfold metrics`: a campaign's figures for Prometheus, Grafana and trackers of experiments."""

from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, show_lines, verbs
from tenfold.cli.options import show as show_result

metrics_app = typer.Typer(
    name="metrics",
    help="Give a campaign's figures to Prometheus, Grafana, TensorBoard, Weights & Biases, MLflow or trackio.",
    cls=verbs("show"),
    subcommand_metavar="[show|serve|send|files] ...",
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
def send(
    campaign: CampaignDirectory = HERE,
    *,
    to: Annotated[str, typer.Option(help="tensorboard, wandb, mlflow, trackio or opentelemetry: extras of tenfold.")],
    run: Annotated[int | None, typer.Option(help="Number of the run. Default: the newest that trained.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run is over.")] = False,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Send a run's figures to a tracker of experiments, each once, however often it is called."""
    from tenfold.campaign import send_metrics

    show_result(send_metrics(campaign, to, number=run, follow=follow, child=child), as_json)


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
