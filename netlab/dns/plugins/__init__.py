"""The plugins: each a link of the chain, made from its lines of the Corefile."""
