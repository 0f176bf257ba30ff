"""Field numbers that no kubectl has descriptors of, for generate.py: of other programs' kinds, and of newer fields.

The numbers stand in k8s.io/…/generated.proto, and in the tags of Go's fields, which every kubectl has in it; a test
compares. A row is a struct's name and its fields, `name=number`, `*` behind the number of what is a pointer in Go.
"""

from __future__ import annotations

from typing import Any

_EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1"
_REGISTRATION = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1"
_ADMISSION = "io.k8s.api.admissionregistration.v1"
_WHOLE = "metadata=1 spec=2 status=3"
_LIST = "metadata=1 items=2"

_ROWS: dict[str, dict[str, str]] = {
    _EXTENSIONS: {
        "CustomResourceDefinition": _WHOLE, "CustomResourceDefinitionList": _LIST,
        "CustomResourceColumnDefinition": "name=1 type=2 format=3 description=4 priority=5 jsonPath=6",
        "CustomResourceConversion": "strategy=1 webhook=2*",
        "CustomResourceDefinitionCondition": "type=1 status=2 lastTransitionTime=3 reason=4 message=5 "
            "observedGeneration=6",
        "CustomResourceDefinitionNames": "plural=1 singular=2 shortNames=3 kind=4 listKind=5 categories=6",
        "CustomResourceDefinitionSpec": "group=1 names=3 scope=4 versions=7 conversion=9* preserveUnknownFields=10",
        "CustomResourceDefinitionStatus": "conditions=1 acceptedNames=2 storedVersions=3 observedGeneration=4",
        "CustomResourceDefinitionVersion": "name=1 served=2 storage=3 schema=4* subresources=5* "
            "additionalPrinterColumns=6 deprecated=7 deprecationWarning=8* selectableFields=9",
        "CustomResourceSubresourceScale": "specReplicasPath=1 statusReplicasPath=2 labelSelectorPath=3*",
        "CustomResourceSubresources": "status=1* scale=2*",
        "CustomResourceValidation": "openAPIV3Schema=1*",
        "ExternalDocumentation": "description=1 url=2",
        "JSONSchemaProps": "id=1 $schema=2 $ref=3* description=4 type=5 format=6 title=7 default=8* maximum=9* "
            "exclusiveMaximum=10 minimum=11* exclusiveMinimum=12 maxLength=13* minLength=14* pattern=15 maxItems=16* "
            "minItems=17* uniqueItems=18 multipleOf=19* enum=20 maxProperties=21* minProperties=22* required=23 "
            "items=24* allOf=25 oneOf=26 anyOf=27 not=28* properties=29 additionalProperties=30* patternProperties=31 "
            "dependencies=32 additionalItems=33* definitions=34 externalDocs=35* example=36* nullable=37 "
            "x-kubernetes-preserve-unknown-fields=38* x-kubernetes-embedded-resource=39 x-kubernetes-int-or-string=40 "
            "x-kubernetes-list-map-keys=41 x-kubernetes-list-type=42* x-kubernetes-map-type=43* "
            "x-kubernetes-validations=44",
        "SelectableField": "jsonPath=1",
        "ServiceReference": "namespace=1 name=2 path=3* port=4*",
        "ValidationRule": "rule=1 message=2 messageExpression=3 reason=4* fieldPath=5 optionalOldSelf=6*",
        "WebhookClientConfig": "service=1* caBundle=2* url=3*",
        "WebhookConversion": "clientConfig=2* conversionReviewVersions=3",
    },
    _REGISTRATION: {
        "APIService": _WHOLE, "APIServiceList": _LIST,
        "APIServiceCondition": "type=1 status=2 lastTransitionTime=3 reason=4 message=5",
        "APIServiceSpec": "service=1* group=2 version=3 insecureSkipTLSVerify=4 caBundle=5* groupPriorityMinimum=7 "
            "versionPriority=8",
        "APIServiceStatus": "conditions=1",
        "ServiceReference": "namespace=1 name=2 port=3*",
    },
    _ADMISSION: {
        "MutatingAdmissionPolicy": "metadata=1 spec=2", "MutatingAdmissionPolicyList": _LIST,
        "MutatingAdmissionPolicyBinding": "metadata=1 spec=2", "MutatingAdmissionPolicyBindingList": _LIST,
        "MutatingAdmissionPolicyBindingSpec": "policyName=1 paramRef=2* matchResources=3*",
        "MutatingAdmissionPolicySpec": "paramKind=1* matchConstraints=2* variables=3 mutations=4 failurePolicy=5* "
            "matchConditions=6 reinvocationPolicy=7",
        "Mutation": "patchType=2 applyConfiguration=3* jsonPatch=4*",
        "ApplyConfiguration": "expression=1", "JSONPatch": "expression=1",
    },
    "io.k8s.api.core.v1": {
        "ImageVolumeStatus": "imageRef=1",
        "NodeStatus": "declaredFeatures=14",
        "PodCertificateProjection": "userAnnotations=7",
        "PodSchedulingGroup": "podGroupName=1*",
        "PodSpec": "schedulingGroup=43*",
        "NodeAllocatableResourceClaimStatus": "resourceClaimName=1 containers=2 resources=3",
        "PodStatus": "allocatedResources=19 resources=20* nodeAllocatableResourceClaimStatuses=21",
        "ResourceHealth": "message=6*",
        "VolumeMountStatus": "volumeStatus=5*", "VolumeStatus": "image=1*",
    },
    "io.k8s.api.resource.v1": {
        "Device": "nodeAllocatableResourceMappings=13",
        "DeviceAttribute": "ints=6 bools=7 strings=8 versions=9",
        "NodeAllocatableResourceMapping": "capacityKey=1* allocationMultiplier=2*",
    },
    "io.k8s.api.storage.v1": {
        "CSIDriverSpec": "serviceAccountTokenInSecrets=10* preventPodSchedulingIfMissing=11*",
    },
    "io.k8s.apimachinery.pkg.apis.meta.v1": {
        "ListMeta": "shardInfo=5*", "ShardInfo": "selector=1",
    },
}


def rows() -> dict[str, dict[str, dict[str, Any]]]:
    """Return {struct: {field: {"n": number, "p": 1 for a pointer}}}, as the table has them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for package, structs in _ROWS.items():
        for name, text in structs.items():
            fields = found[f"{package}.{name}"] = {}
            for field, _, number in (word.rpartition("=") for word in text.split()):
                fields[field] = {"n": int(number.rstrip("*"))} | ({"p": 1} if number.endswith("*") else {})
    return found
