"""A program on kubernetes-asyncio. argv: kubeconfig, namespace."""

import asyncio
import sys

from kubernetes_asyncio import client, config, watch


async def main() -> None:
    await config.load_kube_config(sys.argv[1])
    namespace = sys.argv[2]
    async with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        listed = await core.list_namespaced_secret(namespace)
        await asyncio.gather(*(core.create_namespaced_secret(namespace, {
            "metadata": {"name": f"s{number}"}, "stringData": {"a": "b"}}) for number in range(10)))
        seen = set()
        async with watch.Watch() as watcher:
            async for event in watcher.stream(core.list_namespaced_secret, namespace, timeout_seconds=20,
                                              resource_version=listed.metadata.resource_version):
                seen.add(event["object"].metadata.name)
                if len(seen) == 10:
                    break
        assert (await core.read_namespaced_secret("s1", namespace)).data == {"a": "Yg=="}
        await core.patch_namespaced_secret("s1", namespace, {"metadata": {"labels": {"x": "y"}}})
        found = await core.list_namespaced_secret(namespace, label_selector="x=y")
        assert [each.metadata.name for each in found.items] == ["s1"]
        await core.delete_collection_namespaced_secret(namespace)
        assert (await core.list_namespaced_secret(namespace)).items == []
        print("done")


asyncio.run(main())
