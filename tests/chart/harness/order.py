"""When an object comes to be: by Helm's hooks, and by Argo CD's phases and waves.

Helm: https://helm.sh/docs/topics/charts_hooks. Argo CD: https://argo-cd.readthedocs.io/en/stable/user-guide/sync-waves,
which reads Helm's hooks too where an object has no annotation of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from chart.harness.objects import Obj

HELM_PHASES = ("pre", "main", "post", "test")
ARGO_PHASES = ("PreSync", "Sync", "PostSync")
ARGO_OF_HELM = {
    "pre-install": "PreSync",
    "pre-upgrade": "PreSync",
    "post-install": "PostSync",
    "post-upgrade": "PostSync",
}

Moment = tuple[int, int]
"""(phase, weight within the phase)."""


def helm_moment(obj: Obj, operation: str) -> Moment | None:
    """Return when Helm makes an object in an "install" or "upgrade"; None where it does not."""
    if "helm.sh/hook" not in obj.annotations:
        return HELM_PHASES.index("main"), 0
    weight = int(obj.annotations.get("helm.sh/hook-weight", 0))
    hooks = {hook.strip().removesuffix(f"-{operation}") for hook in obj.annotations["helm.sh/hook"].split(",")}
    return min(((HELM_PHASES.index(hook), weight) for hook in hooks & {*HELM_PHASES}), default=None)


def argo_moment(obj: Obj) -> Moment | None:
    """Return when Argo CD makes an object; None where it does not (Helm's tests)."""
    helm_hooks = [hook.strip() for hook in obj.annotations.get("helm.sh/hook", "").split(",") if hook.strip()]
    phase = obj.annotations.get("argocd.argoproj.io/hook")
    if phase is None and helm_hooks:
        phases = [ARGO_OF_HELM[hook] for hook in helm_hooks if hook in ARGO_OF_HELM]
        if not phases:
            return None
        phase = phases[0]
    wave = obj.annotations.get("argocd.argoproj.io/sync-wave")
    if wave is None:
        wave = obj.annotations.get("helm.sh/hook-weight", "0") if helm_hooks else "0"
    return ARGO_PHASES.index(phase or "Sync"), int(wave)


def is_hook(obj: Obj) -> bool:
    """Say whether an object is a hook, of Helm or Argo CD."""
    return bool({"helm.sh/hook", "argocd.argoproj.io/hook"} & obj.annotations.keys())


def too_late(needed: Obj, user: Obj) -> Iterator[str]:
    """Say where an object would be made after the pod that needs it must run.

    Objects that are no hooks are made together, and their pods wait for each other; a hook's pod must end before
    anything later is made.
    """
    for operation in ("install", "upgrade"):
        made, start = helm_moment(needed, operation), helm_moment(user, operation)
        if start is None or (made is None and operation == "upgrade"):  # what an install made is there at the upgrade
            continue
        if made is None:
            yield f"Helm never makes {needed.id} at {operation}, and {user.id} needs it"
        elif made > start or (made == start and is_hook(needed)):
            yield f"Helm makes {needed.id} {_helm(made, operation)}, and {user.id} {_helm(start, operation)} needs it"
    made_by_argo, started_by_argo = argo_moment(needed), argo_moment(user)
    if started_by_argo is not None:
        if made_by_argo is None:
            yield f"Argo CD never makes {needed.id}, which {user.id} needs"
        elif made_by_argo > started_by_argo or (made_by_argo == started_by_argo and is_hook(user)):
            yield f"Argo CD makes {needed.id} {_argo(made_by_argo)}, and {user.id} {_argo(started_by_argo)} needs it"


def _helm(moment: Moment, operation: str) -> str:
    phase, weight = moment
    named = {
        "pre": f"before {operation}",
        "main": f"at {operation}",
        "post": f"after {operation}",
        "test": "for the test",
    }
    return f"{named[HELM_PHASES[phase]]} with weight {weight}"


def _argo(moment: Moment) -> str:
    return f"in {ARGO_PHASES[moment[0]]}, wave {moment[1]}"
