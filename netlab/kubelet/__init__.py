"""The kubelet: makes one node's containers match the Pods bound to it, and reports what it sees.

It works by level. What is wanted comes from the API server (Pods bound to this node) and from the manifest directory
(static Pods); what is there comes from the container runtime. For each Pod a worker compares the two (`sync.decide`,
pure), carries the difference out (`worker`), and hands the observed state to the reporter, which writes it to the API
server only when it differs (`status`, `reporter`). An event (a watch, a container's end, a probe's verdict) only says
which Pod to look at, so a missed event costs time and never correctness; a restarted kubelet adopts what runs.

The API server may be away, or may be one of the very Pods to start: nothing here waits for it except what needs it.
"""
