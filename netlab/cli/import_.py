"""`netlab import`: the network of another cluster as a scenario, or as a lab at once."""

from __future__ import annotations

from pathlib import Path

import click

from netlab.cli.options import lab_name


@click.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-d", "--directory", metavar="DIR", default="",
              help="The scenario's folder; else named as the first file.")
@click.option("--up", "up_", is_flag=True, help="Also bring it up.")
@click.option("--no-kubeconfig", is_flag=True, help="With --up: leave ~/.kube/config alone.")
@click.option("--force", is_flag=True, help="Overwrite a scenario that is there.")
@lab_name
def command(files: tuple[str, ...], directory: str, name: str, *, up_: bool, force: bool,
            no_kubeconfig: bool) -> None:
    """Rebuild a real cluster's network: FILE is what kubectl get svc,endpointslices,nodes,pods -A -o yaml says.

    Writes a scenario that netlab up takes: the same node names, Pod ranges, Pod and Service addresses, node ports and
    endpoints, so that kube-proxy writes the same rules. Pods become echo servers on their ports. What cannot be
    carried over is told.

    \b
    kubectl get svc,endpointslices,nodes,pods -A -o yaml > prod.yaml
    netlab import prod.yaml && netlab up prod/
    netlab import prod.yaml --up
    """
    from netlab.errors import UsageError
    from netlab.inspect.files import read
    from netlab.lab import importing

    if no_kubeconfig and not up_:
        raise UsageError("--no-kubeconfig is for a lab that comes up: add --up")
    objects = [each for file in files for each in read(file)]
    stem = Path(files[0]).stem if files[0] != "-" else "imported"
    folder = Path(directory or (stem if stem != Path(files[0]).name else f"{stem}-lab"))
    if (folder / "scenario.yaml").exists() and not force:
        raise UsageError(f"{folder} has a scenario already", hint="--force overwrites it, -d DIR writes elsewhere")
    made = importing.convert(objects, title=f"The network of the cluster in {Path(files[0]).name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in importing.texts(made).items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from None
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    count = len(made.scenario["nodes"])
    click.echo(f"wrote {folder}: {count} nodes, {len(made.manifests)} objects", err=up_)
    if not up_:
        click.echo(f"\ntry:\n  netlab up {folder}/")
        return
    from netlab.cli.up import command as up_command

    ctx = click.get_current_context()
    ctx.invoke(up_command, scenario=f"{folder}/", name=name, no_kubeconfig=no_kubeconfig)
