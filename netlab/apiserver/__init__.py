"""kube-apiserver: the one door to the store; REST, watch, admission, discovery.

A request goes from `server` (TLS, HTTP) as an `http.Request` to `dispatch`: who asks (`auth/`), may they, what is
asked (`route`). Pages are answered by `discovery`, `openapi`, `health`; verbs on resources by `verbs/`, below single
objects by `subresources/` and `proxy/`. A verb takes the object through `strategies/` (defaults, what may change),
`admission/` (what the cluster demands), `validation/` (what is wrong, pure) and an `endpoint`, which knows the
resource's `folder` in the store. `render` and `table/` make the answer. `bootstrap` keeps in place what the server
itself needs.
"""
