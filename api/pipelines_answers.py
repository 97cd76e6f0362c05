"""What a verdict becomes in the words of other tools: pass or fail, a hook's status, a canary score.

Pure: one function decides, the others only translate.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from ..schemas.errors import NotFound

Body = dict[str, Any]
Follow = Literal["verdict", "action"]
Status = Literal["in_progress", "pass", "fail"]
Hook = Literal[
    "confirm-rollout",
    "pre-rollout",
    "rollout",
    "confirm-traffic-increase",
    "confirm-promotion",
    "rollback",
]
HOOKS: tuple[Hook, ...] = get_args(Hook)

_BY_VERDICT: Mapping[str, Status] = {"PASS": "pass", "FAIL": "fail"}
_BY_ACTION: Mapping[str, Status] = {"promote": "pass", "rollback": "fail"}
# Spinnaker's words: lower case in Kayenta, upper case in Orca, which converts.
_CLASSES = {"pass": "Pass", "fail": "Fail"}
_SCORES = {"pass": 100, "fail": 0}


def status_of(told: Mapping[str, Any], follow: Follow) -> Status:
    """What a pipeline is to make of an answer.

    Args:
        told: a verdict with its override.
        follow: `verdict`, what is proved (PASS, FAIL); `action`, what the gate's policies make of it,
            which after the deadline may promote or roll back without proof. An override comes before
            either.

    >>> undecided = {"verdict": "UNDECIDED", "action": "promote", "override": None}
    >>> status_of(undecided, "verdict"), status_of(undecided, "action")
    ('in_progress', 'pass')
    >>> status_of({**undecided, "override": {"action": "promote"}}, "verdict")
    'pass'
    """
    if follow == "action" or told["override"] is not None:
        return _BY_ACTION.get(told["action"], "in_progress")
    return _BY_VERDICT.get(told["verdict"], "in_progress")


def sentence_of(told: Mapping[str, Any]) -> str:
    """The sentence of a verdict; before it, who overrode it and why."""
    order = told["override"]
    if order is None:
        return str(told["text"])
    head = f"OVERRIDDEN ({order['action']}) by {order['who']} until {order['until']}"
    return f"{head}: {order['reason']}. {told['text']}"


def hook_succeeds(hook: Hook, told: Mapping[str, Any], follow: Follow) -> bool:
    """Whether a hook of Flagger answers 200.

    Flagger takes a success of `rollback` for the order to roll back, and of any other hook for the
    permission to go on. What begins or ends a rollout needs a pass; what happens on the way needs
    that nothing speaks against it: neither a fail nor an order, or a broken comparison, that holds it.

    >>> undecided = {"verdict": "UNDECIDED", "action": "wait", "override": None}
    >>> [hook for hook in HOOKS if hook_succeeds(hook, undecided, "verdict")]
    ['rollout', 'confirm-traffic-increase']
    """
    status = status_of(told, follow)
    if hook == "rollback":
        return status == "fail"
    if hook in ("rollout", "confirm-traffic-increase"):
        is_held = told["action"] == "hold"
        return status == "pass" or (status == "in_progress" and not is_held)
    return status == "pass"


def execution_id(gate_id: str, epoch: int) -> str:
    """What stands for one epoch of a gate where Kayenta has an execution."""
    return f"{gate_id}@{epoch}"


def split_execution(execution: str) -> tuple[str, int]:
    """Gate and epoch of an execution.

    Raises:
        NotFound: it is none of ours.

    >>> split_execution("canary@3")
    ('canary', 3)
    """
    gate_id, _, epoch = execution.rpartition("@")
    if not gate_id or not (epoch.isascii() and epoch.isdecimal()):
        raise NotFound(f"there is no canary execution {execution!r}; POST one for a gate first")
    return gate_id, int(epoch)


def execution(gate_id: str, epoch: int, told: Mapping[str, Any], follow: Follow) -> Body:
    """A canary execution as Kayenta answers it and Orca reads it (`CanaryExecutionStatusResponse`).

    While nothing is decided it is `running` and has no result, as in Kayenta; with a decision it has
    `succeeded` with the score 100 or 0, for a verdict has no shades. Once the gate is in another
    epoch it is `canceled`: a new release began, and this one was not decided.
    """
    status = status_of(told, follow)
    is_over = told["epoch"] != epoch
    is_decided = status != "in_progress" and not is_over
    state = "canceled" if is_over else "succeeded" if is_decided else "running"
    body: Body = {
        "pipelineId": execution_id(gate_id, epoch),
        "application": gate_id,
        "configId": gate_id,
        "stageStatus": {"judge": state},
        "complete": is_over or is_decided,
        "status": state,
        "buildTimeIso": told["epoch_started"] or told["watermark"],
        "startTimeIso": told["epoch_started"] or told["watermark"],
    }
    if is_decided:
        body["endTimeIso"] = told["as_of"]
        body["result"] = _result(gate_id, told, _SCORES[status], _CLASSES[status])
    return body


def _result(gate_id: str, told: Mapping[str, Any], score: int, name: str) -> Body:
    return {
        "application": gate_id,
        "canaryDuration": f"PT{_lasted_s(told):g}S",
        "canaryExecutionRequest": {"scopes": {}, "thresholds": {"pass": 100, "marginal": 0}},
        "judgeResult": {
            "judgeName": f"penstock {told['engine']}",
            "score": {
                "score": score,
                "classification": name,
                "classificationReason": sentence_of(told),
            },
            "groupScores": [
                {"name": "gate", "score": score, "classification": name, "metrics": []}
            ],
            "results": [_metric(item) for item in told["evidence"]],
        },
    }


def _lasted_s(told: Mapping[str, Any]) -> float:
    """Event time from the start of the epoch to the last cell of the verdict."""
    if told["epoch_started"] is None:
        return 0.0
    start, end = (datetime.fromisoformat(told[name]) for name in ("epoch_started", "as_of"))
    return max((end - start).total_seconds(), 0.0)


def _metric(item: Mapping[str, Any]) -> Body:
    """The evidence of one metric as a result of Kayenta's judges."""
    classes = {"PASS": "Pass", "FAIL": "High", "NO_DATA": "Nodata"}
    return {
        "id": item["metric"],
        "name": item["metric"],
        "classification": classes.get(item["decision"], "Error"),
        "classificationReason": item["declared"],
        "criticality": "critical" if item["critical"] else "report-only",
        "groups": ["gate"],
        "tags": {},
        "controlMetadata": {},
        "experimentMetadata": {},
        "resultMetadata": {name: item[name] for name in ("estimate", "low", "high", "limit", "n")},
    }
