"""TLS as a server, as Kubernetes' components have it: a client's certificate is asked for, taken, and judged later.

Go's crypto/tls can ask for a certificate without judging it (`tls.RequestClientCert`), so upstream's servers answer a
bad one with 401 Unauthorized, as any other credential that is not good. Python's `ssl` can't: OpenSSL refuses in the
handshake, and the client sees a connection that breaks. So the handshake is done by pyOpenSSL, which lets us say yes
(`tls`), and what was shown is judged for each request by the authorities of that moment (`trust`). Files are read again
when they change (`files`), as upstream does (k8s.io/apiserver/pkg/server/dynamiccertificates).
"""
