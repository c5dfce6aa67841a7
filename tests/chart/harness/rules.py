"""The rules that every object of every render keeps.

A rule is a function that yields one sentence for each fault. `POD_RULES` are asked of every pod, init and hook pods
too, `OBJECT_RULES` of every object, `RELEASE_RULES` once of each render. `EXEMPT` says where a rule does not hold, and
why.
"""

from __future__ import annotations

import base64
import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from chart.harness import code, order
from chart.harness.objects import Obj, Pod, find
from chart.harness.render import Release

EXEMPT: dict[tuple[str, str], str] = {
    ("NetworkPolicy/*grant-r-*-plumber", "governs_some_pod"): (
        "a service may be installed without the stages that call it; test_network.py says that callers have the grant"
    ),
}
"""(object, as a pattern; rule) -> why the rule does not hold for it."""

PodRule = Callable[[Pod, Release], Iterator[str]]
ObjectRule = Callable[[Obj, Release], Iterator[str]]
ReleaseRule = Callable[[Release], Iterator[str]]

RUN_TO_THE_END = {"Job", "CronJob", "Pod"}

POD_RULES: dict[str, PodRule] = {}
OBJECT_RULES: dict[str, ObjectRule] = {}
RELEASE_RULES: dict[str, ReleaseRule] = {}


def _rule(registry: dict[str, Any]) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        registry[function.__name__] = function
        return function

    return register


def exempt(subject: str, rule: str) -> bool:
    """Say whether an object need not keep a rule."""
    return any(name == rule and fnmatch.fnmatchcase(subject, pattern) for pattern, name in EXEMPT)


def broken(rules: Mapping[str, Callable[..., Iterator[str]]], *asked: Any) -> list[str]:
    """Ask rules of an object, a pod or a render; return a sentence for each fault, with the rule's name in words."""
    subject = getattr(asked[0], "id", "the render")
    return [
        f"{subject} breaks the rule «{name.replace('_', ' ')}»: {fault}"
        for name, rule in rules.items()
        if not exempt(subject, name)
        for fault in rule(*asked)
    ]


# --- Security: the Pod Security Standard "restricted", each of its controls -----------------------------------------
# https://kubernetes.io/docs/concepts/security/pod-security-standards


def _effective(pod: Pod, container: Mapping[str, Any], field: str) -> Any:
    """Return a field of the container's security context or, where it has none, of the pod's."""
    own = container.get("securityContext") or {}
    return own[field] if field in own else (pod.spec.get("securityContext") or {}).get(field)


@_rule(POD_RULES)
def keeps_out_of_the_node(pod: Pod, _: Release) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        if pod.spec.get(field):
            yield f"{field} is true"
    for sysctl in (pod.spec.get("securityContext") or {}).get("sysctls", ()):
        yield f"sysctl {sysctl['name']} is set"
    for port in find(pod.spec, "hostPort"):
        yield f"takes port {port} of the node"
    for options in find(pod.spec, "windowsOptions"):
        if options.get("hostProcess"):
            yield "windowsOptions.hostProcess is true"
    for container in pod.containers:
        for what in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
            for host in find(container.get(what) or {}, "host"):
                yield f"container {container['name']}: {what} calls the host {host}"


RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
}


@_rule(POD_RULES)
def has_volumes_of_restricted_kinds(pod: Pod, _: Release) -> Iterator[str]:
    for volume in pod.spec.get("volumes", ()):
        for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is a {kind}"


@_rule(POD_RULES)
def does_not_run_as_root(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        if _effective(pod, container, "runAsNonRoot") is not True:
            yield f"container {container['name']}: runAsNonRoot is not true"
        if _effective(pod, container, "runAsUser") == 0:
            yield f"container {container['name']}: runAsUser is 0"


@_rule(POD_RULES)
def gains_no_privilege(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        context, name = container.get("securityContext") or {}, container["name"]
        if context.get("privileged"):
            yield f"container {name} is privileged"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"container {name}: allowPrivilegeEscalation is not false"
        capabilities = context.get("capabilities") or {}
        if "ALL" not in capabilities.get("drop", ()):
            yield f"container {name} does not drop all capabilities"
        for capability in set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield f"container {name} adds the capability {capability}"


@_rule(POD_RULES)
def is_confined_by_the_kernel(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        for field, absent in (("seccompProfile", None), ("appArmorProfile", "RuntimeDefault")):
            kind = (_effective(pod, container, field) or {"type": absent}).get("type")
            if kind not in {"RuntimeDefault", "Localhost"}:
                yield f"container {container['name']}: {field} is {kind}"
        options = _effective(pod, container, "seLinuxOptions") or {}
        confined = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
        if options.get("user") or options.get("role") or options.get("type", "") not in confined:
            yield f"container {container['name']}: seLinuxOptions is {dict(options)}"
        if (container.get("securityContext") or {}).get("procMount", "Default") != "Default":
            yield f"container {container['name']}: procMount is not Default"


# --- Security beyond the standard -------------------------------------------------------------------------------------


@_rule(POD_RULES)
def cannot_write_its_image(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
            yield f"container {container['name']}: readOnlyRootFilesystem is not true"


@_rule(POD_RULES)
def holds_no_service_account_token(pod: Pod, _: Release) -> Iterator[str]:
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"


@_rule(POD_RULES)
def is_not_told_of_every_service_by_environment(pod: Pod, _: Release) -> Iterator[str]:
    # A Service r-irt-plumber would set R_IRT_PLUMBER_PORT in every pod.
    if pod.spec.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false"


# --- Containers -------------------------------------------------------------------------------------------------------

# The grammar of https://pkg.go.dev/github.com/distribution/reference
IMAGE = re.compile(
    r"(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?)+(?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[a-f0-9]{64}))?"
)


@_rule(POD_RULES)
def runs_images_by_tag_or_digest_never_latest(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        image = IMAGE.fullmatch(container["image"])
        if not image:
            yield f"container {container['name']}: {container['image']!r} is no image reference"
        elif not image["digest"] and image["tag"] in {None, "latest"}:
            yield f"container {container['name']}: {container['image']} has no tag of its own"
        if container.get("imagePullPolicy") not in {"Always", "IfNotPresent", "Never"}:
            yield f"container {container['name']}: imagePullPolicy is {container.get('imagePullPolicy')}"


@_rule(POD_RULES)
def sets_resources(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        resources = container.get("resources") or {}
        for path in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if path[1] not in (resources.get(path[0]) or {}):
                yield f"container {container['name']}: resources.{'.'.join(path)} is not set"


@_rule(POD_RULES)
def names_nothing_twice(pod: Pod, _: Release) -> Iterator[str]:
    def twice(what: str, names: Iterator[Any]) -> Iterator[str]:
        for name, count in Counter(names).items():
            if count > 1:
                yield f"{what} {name} stands {count} times"

    yield from twice("container", (container["name"] for container in pod.containers))
    yield from twice("volume", (volume["name"] for volume in pod.spec.get("volumes", ())))
    for container in pod.containers:
        here = f"container {container['name']}:"
        yield from twice(f"{here} variable", (variable["name"] for variable in container.get("env", ())))
        yield from twice(f"{here} mount at", (mount["mountPath"] for mount in container.get("volumeMounts", ())))
    ports = [port for container in pod.containers for port in container.get("ports", ())]
    yield from twice("port name", (port["name"] for port in ports if "name" in port))
    yield from twice("port", ((port["containerPort"], port.get("protocol", "TCP")) for port in ports))


@_rule(POD_RULES)
def holds_no_secret_in_clear(pod: Pod, _: Release) -> Iterator[str]:
    for container in pod.containers:
        for variable in container.get("env", ()):
            if code.is_secret(variable["name"]) and "value" in variable:
                yield f"container {container['name']}: {variable['name']} has its value in the pod"


@_rule(POD_RULES)
def mounts_its_volumes_and_no_others(pod: Pod, _: Release) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
    mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", ())}
    for name in mounted - volumes:
        yield f"mounts {name}, which is no volume of the pod"
    for name in volumes - mounted:
        yield f"has the volume {name}, which nothing mounts"


@_rule(POD_RULES)
def bounds_what_it_may_write(pod: Pod, _: Release) -> Iterator[str]:
    for volume in pod.spec.get("volumes", ()):
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {volume['name']} has no sizeLimit"


@_rule(POD_RULES)
def is_probed_where_it_serves(pod: Pod, release: Release) -> Iterator[str]:
    """Ask that probes point at ports of their container and at routes that the service has."""
    if pod.owner.kind == "Deployment":
        for container in pod.spec["containers"]:
            for probe in {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys():
                yield f"container {container['name']} has no {probe}"
    for container in pod.containers:
        names = {port["name"] for port in container.get("ports", ()) if "name" in port}
        numbers = {port["containerPort"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for kind in ("httpGet", "tcpSocket", "grpc"):
                check = (container.get(probe) or {}).get(kind)
                if check and check["port"] not in names | numbers:
                    yield f"container {container['name']}: {probe} asks port {check['port']}, which it does not open"
                served = code.routes() if container["name"] in code.SERVICES else {(check or {}).get("path")}
                if kind == "httpGet" and check and check["path"] not in served:
                    yield f"container {container['name']}: {probe} asks {check['path']}, which is no route"


@_rule(POD_RULES)
def can_end_when_it_is_a_job(pod: Pod, _: Release) -> Iterator[str]:
    """A sidecar among `containers` would keep the pod of a Job alive for ever."""
    if pod.owner.kind not in RUN_TO_THE_END:
        return
    if len(pod.spec["containers"]) > 1:
        names = " and ".join(container["name"] for container in pod.spec["containers"])
        yield f"runs {names} side by side: a sidecar belongs to initContainers"
    for container in pod.spec.get("initContainers", ()):
        if container.get("restartPolicy") == "Always" and "startupProbe" not in container:
            yield f"sidecar {container['name']} has no startupProbe: the main container would not wait for it"


def _job(obj: Obj) -> Mapping[str, Any]:
    return obj["spec"]["jobTemplate"]["spec"] if obj.kind == "CronJob" else obj["spec"]


@_rule(POD_RULES)
def ends_within_a_time_limit(pod: Pod, _: Release) -> Iterator[str]:
    if pod.owner.kind in RUN_TO_THE_END and "activeDeadlineSeconds" not in _job(pod.owner):
        yield "activeDeadlineSeconds is not set"


@_rule(POD_RULES)
def is_tried_again_a_bounded_number_of_times(pod: Pod, _: Release) -> Iterator[str]:
    if pod.owner.kind in RUN_TO_THE_END and "backoffLimit" not in _job(pod.owner):
        yield "backoffLimit is not set"


@_rule(POD_RULES)
def leaves_restarts_to_its_job(pod: Pod, _: Release) -> Iterator[str]:
    if pod.owner.kind in RUN_TO_THE_END and pod.spec.get("restartPolicy") != "Never":
        yield f"restartPolicy is {pod.spec.get('restartPolicy')}: podFailurePolicy needs Never"


# --- Labels and names -------------------------------------------------------------------------------------------------

CHART_VERSION = {"helm.sh/chart", "app.kubernetes.io/version"}


@_rule(POD_RULES)
def carries_no_chart_version(pod: Pod, _: Release) -> Iterator[str]:
    """Ask that a new version of the chart restarts no pod."""
    for name in CHART_VERSION & (pod.labels.keys() | pod.annotations.keys()):
        yield f"the pod's label {name} changes with the chart's version"


@_rule(OBJECT_RULES)
def selects_within_its_labels(obj: Obj, _: Release) -> Iterator[str]:
    if obj.kind not in {"Deployment", "StatefulSet", "DaemonSet"}:
        return
    selector = obj["spec"]["selector"]["matchLabels"]
    labels = obj["spec"]["template"]["metadata"]["labels"]
    if not selector.items() <= labels.items():
        yield f"selector {dict(selector)} does not match the pod's labels {dict(labels)}"
    if not selector.items() <= obj.labels.items():
        yield f"selector {dict(selector)} does not match the object's labels {dict(obj.labels)}"


@_rule(OBJECT_RULES)
def selects_by_no_chart_version(obj: Obj, _: Release) -> Iterator[str]:
    spec = obj.get("spec") or {}
    for key in ("selector", "matchLabels", "podSelector", "labelSelector"):
        for selector in find(spec, key):
            for name in CHART_VERSION & {*selector} | (CHART_VERSION & {*(selector.get("matchLabels") or {})}):
                yield f"{key} holds {name}"


RECOMMENDED = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    *CHART_VERSION,
}

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@_rule(OBJECT_RULES)
def carries_the_recommended_labels(obj: Obj, release: Release) -> Iterator[str]:
    for name in RECOMMENDED - obj.labels.keys():
        yield f"the label {name} is missing"
    instance = obj.labels.get("app.kubernetes.io/instance")
    if instance != release.name:
        yield f"app.kubernetes.io/instance is {instance}, the release is {release.name}"


@_rule(OBJECT_RULES)
def has_valid_labels_and_annotations(obj: Obj, _: Release) -> Iterator[str]:
    for metadata in (obj["metadata"], *find(obj.get("spec") or {}, "metadata")):
        for name, value in (metadata.get("labels") or {}).items():
            if not LABEL_NAME.fullmatch(name) or not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
                yield f"the label {name}: {value!r} is no valid label"
        for name, value in (metadata.get("annotations") or {}).items():
            if not LABEL_NAME.fullmatch(name) or not isinstance(value, str):
                yield f"the annotation {name}: {value!r} is no valid annotation"


DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LONGEST = {"CronJob": 52}
"""The name of a Job that a CronJob makes is eleven characters longer; all other names are at most 63."""


@_rule(OBJECT_RULES)
def has_a_name_within_limits(obj: Obj, _: Release) -> Iterator[str]:
    longest = LONGEST.get(obj.kind, 63)
    if not DNS_LABEL.fullmatch(obj.name) or len(obj.name) > longest:
        yield f"the name {obj.name!r} ({len(obj.name)} characters) is no DNS label of at most {longest}"


CLUSTER_WIDE = {"ClusterSecretStore"}


@_rule(OBJECT_RULES)
def stands_in_the_namespace_of_the_release(obj: Obj, release: Release) -> Iterator[str]:
    namespace = obj["metadata"].get("namespace")
    if obj.kind in CLUSTER_WIDE:
        if namespace is not None:
            yield f"{obj.kind} is cluster-wide and has the namespace {namespace}"
    elif namespace != release.namespace:
        yield f"the namespace is {namespace}, the release's is {release.namespace}"


@_rule(OBJECT_RULES)
def writes_out_what_operators_would_default(obj: Obj, _: Release) -> Iterator[str]:
    """Ask for the fields that the External Secrets operator fills in: Argo CD would show them as drift."""
    if obj.kind != "ExternalSecret":
        return
    spec = obj["spec"]
    if not re.fullmatch(r"\d+h\d+m\d+s", spec.get("refreshInterval", "")):
        yield f"refreshInterval {spec.get('refreshInterval')} is not in Go's full form"
    for field in ("creationPolicy", "deletionPolicy"):
        if field not in spec["target"]:
            yield f"target.{field} is not written out"
    for field in ("engineVersion", "mergePolicy"):
        if "template" in spec["target"] and field not in spec["target"]["template"]:
            yield f"target.template.{field} is not written out"
    for entry in spec["data"]:
        for field in ("conversionStrategy", "decodingStrategy", "metadataPolicy"):
            if field not in entry["remoteRef"]:
                yield f"data[{entry['secretKey']}].remoteRef.{field} is not written out"
        if "/" in str(entry["remoteRef"]["key"]):
            yield f"the key {entry['remoteRef']['key']} holds a slash, which Google's secret ids cannot"


@_rule(OBJECT_RULES)
def runs_once_at_a_time_in_a_named_time_zone(obj: Obj, _: Release) -> Iterator[str]:
    if obj.kind != "CronJob":
        return
    spec = obj["spec"]
    if spec.get("concurrencyPolicy") != "Forbid":
        yield f"concurrencyPolicy is {spec.get('concurrencyPolicy')}"
    for field in ("timeZone", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if field not in spec:
            yield f"{field} is not set"
    if spec.get("startingDeadlineSeconds", 10) < 10:
        yield "startingDeadlineSeconds below 10: the controller looks every 10 seconds and may never start a run"


# --- References -------------------------------------------------------------------------------------------------------


@_rule(RELEASE_RULES)
def names_every_object_once(release: Release) -> Iterator[str]:
    for (kind, name), count in Counter((obj.kind, obj.name) for obj in release.objects).items():
        if count > 1:
            yield f"{kind}/{name} stands {count} times"


@_rule(RELEASE_RULES)
def hides_no_pod_from_these_rules(release: Release) -> Iterator[str]:
    for obj in release.objects:
        found = sum(1 for _ in find(obj, "containers"))
        known = sum(1 for pod in release.pods if pod.owner is obj)
        if found != known:
            yield f"{obj.id} holds {found} lists of containers, of which {known} are known to the rules"


def _secrets(release: Release) -> dict[str, tuple[Obj, set[str]]]:
    """Return each Secret of the release: its name -> what makes it, and its keys."""
    made = {obj.name: (obj, {*(obj.get("data") or {}), *(obj.get("stringData") or {})}) for obj in release.of("Secret")}
    for obj in release.of("ExternalSecret"):
        target = obj["spec"]["target"]
        template = (target.get("template") or {}).get("data")
        made[target["name"]] = (obj, {*(template or [entry["secretKey"] for entry in obj["spec"]["data"]])})
    return made


def _config_maps(release: Release) -> dict[str, tuple[Obj, set[str]]]:
    return {
        obj.name: (obj, {*(obj.get("data") or {}), *(obj.get("binaryData") or {})}) for obj in release.of("ConfigMap")
    }


REFERENCES = {
    "secretKeyRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapRef": "ConfigMap",
}


def _references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Yield (Secret or ConfigMap, its name, a key or None for all) for each that a pod cannot start without."""
    for field, kind in REFERENCES.items():
        for reference in find(pod.spec, field):
            if not reference.get("optional"):
                yield kind, reference["name"], reference.get("key")
    for volume in pod.spec.get("volumes", ()):
        sources = [volume, *(volume.get("projected") or {}).get("sources", ())]
        for source in sources:
            for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                given = source.get(field)
                if given and not given.get("optional"):
                    keys = [item["key"] for item in given.get("items", ())] or [None]
                    yield from ((kind, given.get(name) or given["name"], key) for key in keys)
    for reference in pod.spec.get("imagePullSecrets", ()):
        yield "Secret", reference["name"], None


def outside(release: Release) -> set[tuple[str, str]]:
    """Return what the user said is there already: (kind, name)."""
    values = release.values
    known = {("Secret", name) for names in find(values, "pullSecrets") for name in names}
    secrets = code.value_of("global.secrets", values)
    if secrets["source"] == "existing":
        known |= {("Secret", secrets[which]["name"]) for which in code.CREDENTIALS}
    for extra in ("extraEnv", "extraVolumes"):
        for given in find(values, extra):
            known |= {(kind, name) for kind, name, _ in _references(Pod(Obj(), {}, {"volumes": given, "env": given}))}
    return known


@_rule(POD_RULES)
def finds_every_secret_and_config_map_in_time(pod: Pod, release: Release) -> Iterator[str]:
    """Ask that each is there, with its key, before the pod starts: by Helm's hooks and by Argo CD's waves."""
    made = {"Secret": _secrets(release), "ConfigMap": _config_maps(release)}
    for kind, name, key in _references(pod):
        if name not in made[kind]:
            if (kind, name) not in outside(release):
                yield f"needs the {kind} {name}, which nothing in the release makes"
            continue
        maker, keys = made[kind][name]
        if key is not None and key not in keys:
            yield f"needs the key {key} of the {kind} {name}, which has {', '.join(sorted(keys))}"
        yield from order.too_late(maker, pod.owner)


@_rule(POD_RULES)
def finds_its_service_account_in_time(pod: Pod, release: Release) -> Iterator[str]:
    name = pod.spec.get("serviceAccountName", "default")
    if name == "default":
        return
    account = release.by_id.get(f"ServiceAccount/{name}")
    if account is None:
        yield f"runs as the ServiceAccount {name}, which nothing in the release makes"
    else:
        yield from order.too_late(account, pod.owner)


def _hosts(pod: Pod, release: Release) -> Iterator[tuple[str, int]]:
    """Yield (host, port) of every URL that a pod is given, also inside the release's own Secrets."""
    defaults = {"http": 80, "https": 443, "postgresql": 5432, "postgres": 5432}
    for container in pod.containers:
        for variable in container.get("env", ()):
            text = variable.get("value", "")
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                secret = release.by_id.get(f"Secret/{reference['name']}")
                text = base64.b64decode(((secret or {}).get("data") or {}).get(reference["key"], "")).decode()
            url = urlsplit(text) if "://" in text else None
            if url and url.scheme in defaults and url.hostname:
                yield url.hostname, url.port or defaults[url.scheme]


def _given_hosts(release: Release) -> set[str]:
    """Return the hosts that the user named."""
    urls = [*find(release.values, "serviceUrl"), *find(release.values, "value")]
    return {host for url in urls if isinstance(url, str) and "://" in url and (host := urlsplit(url).hostname)}


@_rule(POD_RULES)
def calls_only_hosts_that_are_there(pod: Pod, release: Release) -> Iterator[str]:
    proxied = any(container["name"] == "cloud-sql-proxy" for container in pod.containers)
    for host, port in _hosts(pod, release):
        service = release.by_id.get(f"Service/{host.removesuffix(f'.{release.namespace}.svc.cluster.local')}")
        if service is not None:
            if port not in {entry["port"] for entry in service["spec"]["ports"]}:
                yield f"calls port {port} of the Service {service.name}, which has no such port"
            yield from order.too_late(service, pod.owner)
        elif host not in _given_hosts(release) and not (proxied and host == "127.0.0.1"):
            yield f"calls {host}, which is no Service of the release"


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a label selector (matchLabels, matchExpressions) takes these labels; an empty one takes all."""
    verdict = all(labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items())
    for term in selector.get("matchExpressions") or ():
        has, is_one = term["key"] in labels, labels.get(term["key"]) in (term.get("values") or ())
        verdict &= {"In": has and is_one, "NotIn": not is_one, "Exists": has, "DoesNotExist": not has}[term["operator"]]
    return verdict


def _selected(release: Release, selector: Mapping[str, Any]) -> list[Pod]:
    return [pod for pod in release.pods if matches(selector, pod.labels)]


def _points(kind: str) -> Callable[[ObjectRule], ObjectRule]:
    """Register a rule for objects of one kind."""

    def register(function: ObjectRule) -> ObjectRule:
        def rule(obj: Obj, release: Release) -> Iterator[str]:
            if obj.kind == kind:
                yield from function(obj, release)

        rule.__name__ = function.__name__
        return _rule(OBJECT_RULES)(rule)

    return register


@_points("Service")
def leads_to_the_pods_of_one_deployment(obj: Obj, release: Release) -> Iterator[str]:
    pods = _selected(release, {"matchLabels": obj["spec"]["selector"]})
    if [pod.owner.kind for pod in pods] != ["Deployment"]:
        yield f"selects {', '.join(pod.id for pod in pods) or 'no pod'}"
    for entry in obj["spec"]["ports"]:
        target = entry.get("targetPort", entry["port"])
        for pod in pods:
            ports = [port for container in pod.containers for port in container.get("ports", ())]
            if target not in {port.get("name") for port in ports} | {port["containerPort"] for port in ports}:
                yield f"targetPort {target} is no port of {pod}"


@_points("ServiceMonitor")
def scrapes_a_real_port_and_route(obj: Obj, release: Release) -> Iterator[str]:
    services = [service for service in release.of("Service") if matches(obj["spec"]["selector"], service.labels)]
    if not services:
        yield "selects no Service"
    for endpoint in obj["spec"]["endpoints"]:
        for service in services:
            if endpoint["port"] not in {entry.get("name") for entry in service["spec"]["ports"]}:
                yield f"port {endpoint['port']} is no port of {service.id}"
        if endpoint["path"] not in code.routes():
            yield f"scrapes {endpoint['path']}, which is no route"


@_points("HorizontalPodAutoscaler")
def scales_a_deployment_without_fixed_replicas(obj: Obj, release: Release) -> Iterator[str]:
    target = obj["spec"]["scaleTargetRef"]
    deployment = release.by_id.get(f"{target['kind']}/{target['name']}")
    if deployment is None:
        yield f"scales {target['kind']}/{target['name']}, which is not there"
    elif "replicas" in deployment["spec"]:
        yield f"{deployment.id} has fixed replicas: every upgrade would undo the scaling"


@_points("PodDisruptionBudget")
def lets_a_node_be_drained(obj: Obj, release: Release) -> Iterator[str]:
    if not _selected(release, obj["spec"]["selector"]):
        yield "selects no pod"
    if obj["spec"].get("maxUnavailable") in {0, "0%"} or "minAvailable" in obj["spec"]:
        yield "blocks the drain of a node at one replica"


@_points("NetworkPolicy")
def governs_some_pod(obj: Obj, release: Release) -> Iterator[str]:
    if not _selected(release, obj["spec"]["podSelector"]):
        yield f"selects no pod: {dict(obj['spec']['podSelector'].get('matchLabels') or {})}"


@_points("ExternalSecret")
def reads_a_store_that_is_there(obj: Obj, release: Release) -> Iterator[str]:
    store = obj["spec"]["secretStoreRef"]
    if not code.value_of("secretStore.create", release.values):
        if store["name"] != code.value_of("secretStore.name", release.values):
            yield f"reads {store['name']}, not the store that the values name"
    elif f"{store['kind']}/{store['name']}" not in release.by_id:
        yield f"reads {store['kind']}/{store['name']}, which the release should make and does not"


@_rule(OBJECT_RULES)
def logs_in_as_an_account_that_is_there(obj: Obj, release: Release) -> Iterator[str]:
    for reference in find(obj, "serviceAccountRef"):
        if f"ServiceAccount/{reference['name']}" not in release.by_id:
            yield f"logs in as the ServiceAccount {reference['name']}, which is not there"


@_rule(RELEASE_RULES)
def makes_no_secret_or_service_account_that_nothing_uses(release: Release) -> Iterator[str]:
    used = {name for pod in release.pods for kind, name, _ in _references(pod) if kind == "Secret"}
    for name, (maker, keys) in _secrets(release).items():
        if name not in used:
            yield f"{maker.id} makes the Secret {name}, which no pod reads"
        reads = [reference for pod in release.pods for reference in _references(pod)]
        read = {key for kind, other, key in reads if (kind, other) == ("Secret", name)}
        for key in keys - read if None not in read else ():
            yield f"{maker.id} makes the key {key} of the Secret {name}, which no pod reads"
    accounts = {pod.spec.get("serviceAccountName") for pod in release.pods}
    accounts |= {reference["name"] for obj in release.objects for reference in find(obj, "serviceAccountRef")}
    for obj in release.of("ServiceAccount"):
        if obj.name not in accounts:
            yield f"{obj.id} is used by no pod"
