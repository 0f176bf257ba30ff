"""Roles and bindings (pkg/apis/rbac/validation)."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.auth.policy import RBAC
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, invalid, not_supported, required, unsupported
from netlab.apiserver.validation.selectors import label_selector


class RoleStrategy(Strategy):
    """Roles and ClusterRoles: any name that can stand in a path."""

    create_on_update = True

    def name_form(self, name: str) -> list[str]:
        """Names like system:node are fine."""
        return names.path_segment(name)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the rules."""
        errors = super().validate(obj)
        for place, rule in enumerate(obj.get("rules") or []):
            errors += _rule_errors(rule, f"rules[{place}]", namespaced=self.resource.namespaced)
        aggregation = obj.get("aggregationRule")
        if aggregation is not None and not aggregation.get("clusterRoleSelectors"):
            errors.append(required("aggregationRule.clusterRoleSelectors",
                                   "at least one clusterRoleSelector required if aggregationRule is non-nil"))
        for place, selector in enumerate((aggregation or {}).get("clusterRoleSelectors") or ()):
            path = f"aggregationRule.clusterRoleSelectors[{place}]"
            wrong = list(label_selector(selector, path))
            errors += [*wrong, *([invalid(path, selector, "invalid label selector.")] if wrong else ())]
        return errors


class BindingStrategy(Strategy):
    """RoleBindings and ClusterRoleBindings."""

    create_on_update = True

    def name_form(self, name: str) -> list[str]:
        """Names like system:node are fine."""
        return names.path_segment(name)

    def default(self, obj: Object) -> None:
        """Fill in API groups."""
        reference = obj.setdefault("roleRef", {})
        if isinstance(reference, dict) and not reference.get("apiGroup"):
            reference["apiGroup"] = RBAC
        for subject in obj.get("subjects") or []:
            if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
                subject["apiGroup"] = RBAC

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the reference and the subjects."""
        errors = super().validate(obj)
        reference = obj.get("roleRef") or {}
        if reference.get("apiGroup") != RBAC:
            errors.append(not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), [RBAC]))
        known = ("Role", "ClusterRole") if self.resource.namespaced else ("ClusterRole",)
        if reference.get("kind", "") not in known:
            errors.append(unsupported("roleRef.kind", reference.get("kind", ""), known))
        if not reference.get("name"):
            errors.append(required("roleRef.name"))
        else:
            errors += [invalid("roleRef.name", reference["name"], said)
                       for said in names.path_segment(reference["name"])]
        for place, subject in enumerate(obj.get("subjects") or []):
            errors += _subject_errors(subject, f"subjects[{place}]", namespaced=self.resource.namespaced)
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """The role is settled when the binding is made."""
        errors = super().validate_update(obj, old)
        if obj.get("roleRef") != old.get("roleRef"):
            errors.append(invalid("roleRef", obj.get("roleRef") or {}, "cannot change roleRef"))
        return errors


def _rule_errors(rule: Object, path: str, *, namespaced: bool) -> list[FieldError]:
    errors = []
    if not rule.get("verbs"):
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    if rule.get("nonResourceURLs"):
        if namespaced:
            errors.append(invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"],
                                  "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            errors.append(invalid(f"{path}.nonResourceURLs", rule["nonResourceURLs"],
                                  "rules cannot apply to both regular resources and non-resource URLs"))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
    return errors


def _subject_errors(subject: Object, path: str, *, namespaced: bool) -> list[FieldError]:
    errors = []
    kind, name, group = subject.get("kind", ""), subject.get("name", ""), subject.get("apiGroup", "")
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        errors += [invalid(f"{path}.name", name, said) for said in (names.dns_subdomain(name) if name else [])]
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, [""]))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != RBAC:
            errors.append(not_supported(f"{path}.apiGroup", group, [RBAC]))
    else:
        errors.append(unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    return errors
