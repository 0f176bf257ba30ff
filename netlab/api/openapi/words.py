"""What every object says of itself, in words of our own: `kubectl explain` has them also without the descriptions.

They begin as people, and programs that read them, know them from upstream.
"""

from __future__ import annotations

ENVELOPE = {
    "apiVersion": "APIVersion defines which version of which API group's schema this object follows.",
    "kind": "Kind is the name of the type of this object, in CamelCase. It cannot be changed.",
    "metadata": "Standard object's metadata: its names, what is attached to it, and what the server keeps.",
}
"""Of every kind."""

METADATA = {
    "annotations": "Annotations is a map of texts that tools attach to an object; nothing is selected by them.",
    "creationTimestamp": "CreationTimestamp is a timestamp: when the server made this object. Set by the server.",
    "deletionGracePeriodSeconds": "How long this object has to go once it is being deleted. Set by the server.",
    "deletionTimestamp": "DeletionTimestamp is when this object is to go, once it is being deleted. It stays for as "
                         "long as it has finalizers. Set by the server.",
    "finalizers": "Who has something to do before this object may go; each takes his name away when he is done.",
    "generateName": "GenerateName is a prefix: without a name, the server adds five random characters to it.",
    "generation": "A number that grows with each change of what is wanted. Set by the server.",
    "labels": "Map of keys and values by which objects are selected.",
    "managedFields": "Who has set which fields, as server-side apply keeps it. Set by the server.",
    "name": "Name must be unique among the objects of a kind in a namespace. It cannot be changed.",
    "namespace": "Namespace is where the object's name is unique; empty for what belongs to the whole cluster.",
    "ownerReferences": "Objects that this one depends on: when all of them are gone, it goes. At most one of them is "
                       "its controller.",
    "resourceVersion": "The revision of the object's last change; compare for equality only. Set by the server.",
    "selfLink": "Not filled in any more.",
    "uid": "UID is unique in time and space: a namesake made later has another. Set by the server.",
}
"""Of the fields of ObjectMeta."""
