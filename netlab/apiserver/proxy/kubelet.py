"""Pods' logs, exec, attach and port-forward: asked of the kubelet of the Pod's node, as upstream asks it."""

from __future__ import annotations

import ssl
from dataclasses import replace
from urllib.parse import quote, urlencode

from netlab.api.meta import Object
from netlab.apiserver import status, websocket
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply, Response, Stream
from netlab.apiserver.options import Options
from netlab.apiserver.proxy.http import prefix_of
from netlab.apiserver.verbs.get import current
from netlab.errors import ApiError, UsageError
from netlab.serving.shown import Shown

PORT = 10250
_LOG_WORDS = {"follow": "follow", "previous": "previous", "timestamps": "timestamps", "sinceSeconds": "sinceSeconds",
              "sinceTime": "sinceTime", "tailLines": "tailLines", "limitBytes": "limitBytes", "stream": "stream"}
_EXEC_WORDS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


def tls(options: Options, shown: Shown) -> ssl.SSLContext:
    """Return how this server shows itself to kubelets, and whom it trusts.

    Raises:
        UsageError: a file is missing or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if options.kubelet_ca:
            context.load_verify_locations(options.kubelet_ca)
        else:  # as upstream: without a CA, kubelets' self-signed certificates are taken
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--kubelet-certificate-authority: {options.kubelet_ca}: {error}") from error
    shown.put(context)
    return context


async def log(call: Call) -> Response:
    """Answer a container's log.

    Raises:
        ApiError: 400 which container is meant, or it does not run yet; 404; 500 the kubelet does not answer.
    """
    pod = call.endpoint.view(await current(call))
    container = _container(call, pod)
    words = {theirs: call.request.arg(ours) for ours, theirs in _LOG_WORDS.items() if call.request.arg(ours)}
    for name in ("tailLines", "sinceSeconds", "limitBytes"):
        _number(name, words.get(name, "0"), low=1 if name != "tailLines" else 0)
    if not (pod.get("spec") or {}).get("nodeName"):
        return Reply(content_type="text/plain")  # not scheduled: no log yet, which is no error
    base = await _base(call, pod)
    plain = {name: value for name, value in call.request.headers.items() if name.lower() != "upgrade"}
    url = f"{base}/containerLogs/{_path(pod)}/{quote(container)}?{urlencode(words)}"
    answer = await call.api.kubelets.forward(replace(call.request, headers=plain), url)
    if isinstance(answer, Reply) and answer.status >= 400:  # the kubelet answers in plain words
        said = answer.body.decode(errors="replace").strip()
        reason = {400: "BadRequest", 404: "NotFound"}.get(answer.status, "InternalError")
        raise ApiError(answer.status, reason, said)
    if isinstance(answer, Reply) and websocket.asked(call.request):
        body = answer.body
        answer = Stream(lambda sink: sink.write(body), answer.content_type)
    if isinstance(answer, Stream):
        answer.messages = "bytes"
    return answer


async def exec_(call: Call) -> Response:
    """Pass an exec on."""
    return await _stream(call, "exec")


async def attach(call: Call) -> Response:
    """Pass an attach on."""
    return await _stream(call, "attach")


async def portforward(call: Call) -> Response:
    """Pass a port-forward on.

    Raises:
        ApiError: 400, 404, 500.
    """
    pod = call.endpoint.view(await current(call))
    base = await _base(call, pod)
    ports = [("port", port) for text in call.request.query.get("ports", []) for port in text.split(",")]
    query = f"?{urlencode(ports)}" if ports else ""
    return await call.api.kubelets.forward(call.request, f"{base}/portForward/{_path(pod)}{query}")


async def node(call: Call) -> Response:
    """Pass a request to a node's kubelet on (nodes/…/proxy).

    Raises:
        ApiError: 404, 500.
    """
    name, _, port = call.name.partition(":")
    query = f"?{call.request.raw_query}" if call.request.raw_query else ""
    base = await _kubelet(call, name, port)
    return await call.api.kubelets.forward(call.request, f"{base}/{quote(call.target.rest, safe='/:@')}{query}",
                                           prefix=prefix_of(call))


async def _stream(call: Call, what: str) -> Response:
    pod = call.endpoint.view(await current(call))
    container = _container(call, pod)
    if not (pod.get("spec") or {}).get("nodeName"):
        raise status.bad_request(f"pod {call.name} does not have a host assigned")
    words = [(theirs, "1") for ours, theirs in _EXEC_WORDS.items() if call.request.flag(ours)]
    if not any(word in ("input", "output", "error") for word, _ in words):
        raise status.bad_request("you must specify at least one of stdin, stdout, stderr")
    if what == "exec":
        command = call.request.query.get("command", [])
        if not command:
            raise status.bad_request("you must specify at least one command for the container")
        words += [("command", part) for part in command]
    base = await _base(call, pod)
    return await call.api.kubelets.forward(
        call.request, f"{base}/{what}/{_path(pod)}/{quote(container)}?{urlencode(words, quote_via=quote)}")


def _path(pod: Object) -> str:
    return f"{quote(pod['metadata']['namespace'])}/{quote(pod['metadata']['name'])}"


def _container(call: Call, pod: Object) -> str:
    spec = pod.get("spec") or {}
    every = [container["name"] for part in ("initContainers", "containers", "ephemeralContainers")
             for container in spec.get(part) or []]
    asked = call.request.arg("container")
    if asked:
        if asked not in every:
            raise status.bad_request(f"container {asked} is not valid for pod {call.name}")
        return asked
    main = [container["name"] for container in spec.get("containers") or []]
    if len(main) == 1 and len(every) == 1:
        return str(main[0])
    if call.target.subresource in ("exec", "attach") and len(main) == 1:
        return str(main[0])
    annotated = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if annotated in main:
        return str(annotated)
    raise status.bad_request(f"a container name must be specified for pod {call.name}, choose one of: "
                             f"[{' '.join(main)}]" + (f" or one of the init containers: [{' '.join(_init(spec))}]"
                                                      if _init(spec) else ""))


def _init(spec: Object) -> list[str]:
    return [container["name"] for container in spec.get("initContainers") or []]


async def _base(call: Call, pod: Object) -> str:
    name = (pod.get("spec") or {}).get("nodeName", "")
    if not name:
        raise status.bad_request(f"pod {call.name} does not have a host assigned")
    return await _kubelet(call, name)


async def _kubelet(call: Call, name: str, port: str = "") -> str:
    """Return the URL of a node's kubelet: the port that the node tells unless one is given."""
    found = await call.api.lookup("nodes", "", name)
    if found is None:
        raise ApiError(404, "NotFound", f'nodes "{name}" not found', details={"name": name, "kind": "nodes"})
    state = found.get("status") or {}
    told = ((state.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or PORT
    known: dict[str, str] = {}
    for entry in state.get("addresses") or []:
        known.setdefault(entry.get("type"), entry.get("address", ""))
    for kind in ("InternalIP", *call.api.options.kubelet_addresses):
        if known.get(kind):
            address: str = known[kind]
            host = f"[{address}]" if ":" in address else address
            return f"https://{host}:{port or told}"
    raise status.internal(f"no preferred addresses found; known addresses: {sorted(map(str, known))}")


def _number(name: str, text: str, *, low: int) -> None:
    if (not (text.isascii() and text.isdigit()) or int(text) < low) and (text != "0" or low == 0):
        raise status.bad_request(f'{name}: Invalid value: "{text}": must be greater than or equal to {low}')
