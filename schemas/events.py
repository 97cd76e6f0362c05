"""The events: what a worker tells Penstock, field by field.

Each event is a frozen dataclass whose annotations are the only catalogue there is. The frame codec,
the JSON reader, the JSON Schema files in docs/schemas/, the reference page docs/events.md and the
checks on the table definitions all read it through `fields_of`.

Version rule: fields are only ever added. A reader of version n accepts frames and JSON of n - 1
(absent fields are null) and of n + 1 (unknown fields survive in `attributes`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from .fields import Doc, FieldSpec, Kind, float_doc, int_doc, label_doc, ms_doc, ratio_doc, text_doc

SCHEMA_VERSION = 1

EventName = Literal["request", "step", "feedback", "release", "span"]

STATUSES = ("ok", "error", "timeout", "cancelled", "rejected")
ERROR_TYPES = (
    "oom",
    "tokenizer_mismatch",
    "adapter_merge",
    "api_timeout",
    "hot_shard",
    "overload",
    "validation",
    "upstream",
    "internal",
    "other",
)
SAFETY_FLAGS = ("pii", "toxic", "hate", "self_harm", "jailbreak")
STEP_KINDS = ("engine", "train", "eval", "device")
BACKEND_FALLBACKS = (
    "module_load_error",
    "make_positions",
    "make_input",
    "make_write",
    "unknown_mode",
)
SAMPLE_REASONS = ("head", "error", "timeout", "safety", "low_confidence")

Label = str | None
Text = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What every event carries: when it happened, and who it is."""

    ts: Annotated[int, Doc("time", "Event time: completion of a request, end of a step.", "us UTC")]
    worker_id: Annotated[Label, label_doc("The process that emits, as its operator names it.")] = (
        None
    )
    boot_id: Annotated[Label, label_doc("Random id of one start of the worker process.")] = None
    seq: Annotated[
        int | None, int_doc("Number of the event within its boot, counting up by one.", "count")
    ] = None
    sample_rate: Annotated[
        float | None,
        float_doc(
            "Probability with which the sampled part of this row was kept.",
            "ratio 0..1",
            "playbook",
            0.0,
            1.0,
        ),
    ] = None
    sample_reason: Annotated[
        Label, label_doc("Why the sampled part was kept.", "mlops", SAMPLE_REASONS)
    ] = None
    attributes: Annotated[
        dict[str, str], Doc("texts", "Anything else; unknown fields of newer writers survive here.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent(_Identity):
    """One request to a model, told when it completes (or once while it is overdue)."""

    request_id: Annotated[Text, text_doc("Id of the request; feedback joins by it.", "mlops")] = (
        None
    )
    trace_id: Annotated[Text, text_doc("Correlates the request across services.", "playbook")] = (
        None
    )
    span_id: Annotated[Text, text_doc("Span of this request within its trace.", "playbook")] = None
    parent_span_id: Annotated[Text, text_doc("Span that caused this one.", "mlops")] = None
    session_id: Annotated[Text, text_doc("Conversation or agent session.")] = None
    tenant: Annotated[Label, label_doc("Customer or team that is charged.")] = None
    user_hash: Annotated[Text, text_doc("Keyed hash of the user id.", "playbook")] = None
    client_ip_hash: Annotated[Text, text_doc("Keyed hash of the client address.", "mlops")] = None
    user_agent: Annotated[Label, label_doc("Client software.", "mlops")] = None
    model: Annotated[Label, label_doc("Model that answered.", "playbook")] = None
    model_version: Annotated[Label, label_doc("Semantic version of the model.", "playbook")] = None
    adapter: Annotated[Label, label_doc("Adapter (LoRA) merged for the request.", "playbook")] = (
        None
    )
    route: Annotated[Label, label_doc("API route or feature.", "playbook")] = None
    release: Annotated[Label, label_doc("Deployed release that served it.", "playbook")] = None
    variant: Annotated[Label, label_doc("control, canary or shadow.", "playbook")] = None
    experiment: Annotated[Label, label_doc("Experiment that assigned the variant.", "mlops")] = None
    status: Annotated[
        Label,
        label_doc(
            "Outcome; absent it means ok, or error where error_type is given; none while overdue.",
            "mlops",
            STATUSES,
        ),
    ] = None
    error_type: Annotated[Label, label_doc("Kind of failure.", "playbook", ERROR_TYPES)] = None
    error_message: Annotated[Text, text_doc("Message of the failure, redacted.", "mlops")] = None
    finish_reason: Annotated[Label, label_doc("Why generation ended (stop, length, ...).")] = None
    input_tokens: Annotated[int | None, int_doc("Prompt tokens.", "tokens", "playbook")] = None
    output_tokens: Annotated[int | None, int_doc("Generated tokens.", "tokens", "playbook")] = None
    cached_tokens: Annotated[
        int | None, int_doc("Prompt tokens served from the prefix cache.", "tokens", "playbook")
    ] = None
    reasoning_tokens: Annotated[int | None, int_doc("Generated tokens not shown.", "tokens")] = None
    input_bytes: Annotated[int | None, int_doc("Size of the request.", "bytes", "mlops")] = None
    output_bytes: Annotated[int | None, int_doc("Size of the response.", "bytes", "mlops")] = None
    input_hash: Annotated[Text, text_doc("Hash of the input, to find repeats.", "mlops")] = None
    http_status: Annotated[int | None, int_doc("HTTP status answered.", "code", "pipeline")] = None
    severity: Annotated[Label, label_doc("Severity of the error.", "pipeline")] = None
    region: Annotated[Label, label_doc("Region that served it.", "mlops")] = None
    pair_id: Annotated[
        Text, text_doc("Same id on a request and its mirrored twin.", "playbook")
    ] = None
    item_id: Annotated[Text, text_doc("Question of an evaluation set.", "gates")] = None
    latency_ms: Annotated[float | None, ms_doc("End to end.", "playbook")] = None
    overdue: Annotated[
        bool | None,
        Doc("bool", "Was in flight longer than overdue_ms; announced once with status null."),
    ] = None
    queue_ms: Annotated[float | None, ms_doc("Waiting before the engine took it.")] = None
    batch_wait_ms: Annotated[float | None, ms_doc("Waiting for a batch to fill.")] = None
    tokenize_ms: Annotated[float | None, ms_doc("Tokenizing.", "gates")] = None
    transport_ms: Annotated[float | None, ms_doc("Between processes.", "gates")] = None
    preprocess_ms: Annotated[float | None, ms_doc("Input transformation.")] = None
    prefill_ms: Annotated[float | None, ms_doc("Prompt processing.", "gates")] = None
    ttft_ms: Annotated[float | None, ms_doc("Time to first token.", "gates")] = None
    tpot_ms: Annotated[float | None, ms_doc("Time per output token after the first.", "gates")] = (
        None
    )
    decode_ms: Annotated[float | None, ms_doc("Generation after the first token.", "gates")] = None
    inference_ms: Annotated[float | None, ms_doc("Model computation.")] = None
    postprocess_ms: Annotated[float | None, ms_doc("Output transformation.")] = None
    detokenize_ms: Annotated[float | None, ms_doc("Detokenizing.", "gates")] = None
    cache_hit: Annotated[bool | None, Doc("bool", "KV or prompt cache hit.", "", "playbook")] = None
    cost_usd: Annotated[float | None, Doc("usd", "Cost of the request.", "USD", "playbook")] = None
    safety_flags: Annotated[
        frozenset[str],
        Doc(
            "labels", f"Violations found: {', '.join(SAFETY_FLAGS)}, or own names.", "", "playbook"
        ),
    ] = frozenset()
    output_class: Annotated[Label, label_doc("Predicted class.", "mlops")] = None
    output_score: Annotated[float | None, ratio_doc("Confidence of the prediction.")] = None
    quality: Annotated[
        float | None, float_doc("Quality score of the answer.", "score", "playbook")
    ] = None
    features: Annotated[
        dict[str, float],
        Doc("floats", "Sampled model inputs, for drift.", "", "mlops", minimum=None),
    ] = field(default_factory=dict)
    categories: Annotated[
        dict[str, str], Doc("texts", "Sampled categorical inputs, for drift.", "", "mlops")
    ] = field(default_factory=dict)
    payload: Annotated[
        Text, text_doc("Sampled, redacted prompt and response (JSON).", "playbook")
    ] = None
    first_step: Annotated[int | None, int_doc("First engine step that served it.", "step")] = None
    last_step: Annotated[int | None, int_doc("Last engine step that served it.", "step")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(_Identity):
    """One turn of an engine, training or evaluation loop, or one reading of a device."""

    kind: Annotated[Label, label_doc("Which loop.", "gates", STEP_KINDS)] = "engine"
    model: Annotated[Label, label_doc("Model the step ran.", "playbook")] = None
    model_version: Annotated[Label, label_doc("Semantic version of the model.", "playbook")] = None
    adapter: Annotated[Label, label_doc("Adapter in use.", "playbook")] = None
    release: Annotated[Label, label_doc("Deployed release.", "playbook")] = None
    variant: Annotated[Label, label_doc("control, canary or shadow.", "playbook")] = None
    step: Annotated[
        int | None, int_doc("Number of the step within its boot.", "step", "training")
    ] = None
    step_ms: Annotated[float | None, ms_doc("Duration of the step.", "gates")] = None
    batch_size: Annotated[int | None, int_doc("Sequences in the batch.", "count", "mlops")] = None
    batch_capacity: Annotated[
        int | None, int_doc("Sequences the batch could hold.", "count", "playbook")
    ] = None
    prefill_tokens: Annotated[
        int | None, int_doc("Prompt tokens processed.", "tokens", "gates")
    ] = None
    decode_tokens: Annotated[int | None, int_doc("Tokens generated.", "tokens", "gates")] = None
    queue_prefill: Annotated[
        int | None, int_doc("Requests waiting for prefill.", "count", "gates")
    ] = None
    queue_decode: Annotated[
        int | None, int_doc("Requests waiting for decode.", "count", "gates")
    ] = None
    running: Annotated[int | None, int_doc("Requests in flight.", "count", "gates")] = None
    inflight_decode_tokens: Annotated[
        int | None, int_doc("Tokens held by sequences in decode.", "tokens", "gates")
    ] = None
    kv_cache_usage: Annotated[
        float | None, ratio_doc("Share of the KV cache in use.", "playbook")
    ] = None
    preemptions: Annotated[int | None, int_doc("Sequences preempted in the step.", "count")] = None
    tokenize_ms: Annotated[float | None, ms_doc("Tokenizing.", "gates")] = None
    tokenize_items: Annotated[int | None, int_doc("Items tokenized.", "count", "gates")] = None
    detokenize_ms: Annotated[float | None, ms_doc("Detokenizing.", "gates")] = None
    detokenize_items: Annotated[int | None, int_doc("Items detokenized.", "count", "gates")] = None
    transport_ms: Annotated[float | None, ms_doc("Between processes.", "gates")] = None
    backend: Annotated[Label, label_doc("Compute backend selected.", "gates")] = None
    backend_fallback: Annotated[
        Label, label_doc("Why the backend fell back.", "gates", BACKEND_FALLBACKS)
    ] = None
    gpu_id: Annotated[Label, label_doc("Device.", "mlops")] = None
    gpu_utilization: Annotated[float | None, ratio_doc("Share of time the device computed.")] = None
    gpu_memory_used_bytes: Annotated[
        int | None, int_doc("Device memory in use.", "bytes", "mlops")
    ] = None
    gpu_memory_allocated_bytes: Annotated[
        int | None, int_doc("Device memory held by the allocator.", "bytes", "mlops")
    ] = None
    gpu_memory_total_bytes: Annotated[int | None, int_doc("Device memory.", "bytes", "mlops")] = (
        None
    )
    gpu_temperature_c: Annotated[
        float | None, float_doc("Device temperature.", "degC", "pipeline")
    ] = None
    cpu_utilization: Annotated[float | None, ratio_doc("Share of host CPU in use.", "pipeline")] = (
        None
    )
    host_memory_bytes: Annotated[
        int | None, int_doc("Host memory in use.", "bytes", "pipeline")
    ] = None
    host_memory_total_bytes: Annotated[int | None, int_doc("Host memory.", "bytes", "pipeline")] = (
        None
    )
    disk_bytes: Annotated[int | None, int_doc("Disk in use.", "bytes", "pipeline")] = None
    network_bytes: Annotated[
        int | None, int_doc("Bytes sent and received.", "bytes", "pipeline")
    ] = None
    cache_evictions: Annotated[
        int | None, int_doc("Cache entries evicted.", "count", "pipeline")
    ] = None
    cache_bytes: Annotated[int | None, int_doc("Cache size.", "bytes", "pipeline")] = None
    mem_peak_mb: Annotated[float | None, float_doc("Peak memory.", "MB", "training", 0.0)] = None
    model_load_s: Annotated[
        float | None, float_doc("Time to load the model.", "s", "mlops", 0.0)
    ] = None
    expected_replicas: Annotated[int | None, int_doc("Replicas wanted.", "count", "mlops")] = None
    healthy_replicas: Annotated[int | None, int_doc("Replicas that answer.", "count", "mlops")] = (
        None
    )
    retry_rate: Annotated[float | None, ratio_doc("Share of work retried.", "training")] = None
    loss: Annotated[float | None, float_doc("Training or evaluation loss.", "loss", "training")] = (
        None
    )
    grad_norm: Annotated[float | None, float_doc("Gradient norm.", "norm", "training", 0.0)] = None
    learning_rate: Annotated[float | None, float_doc("Learning rate.", "rate", "training", 0.0)] = (
        None
    )
    tokens_per_s: Annotated[float | None, float_doc("Throughput.", "tokens/s", "playbook", 0.0)] = (
        None
    )
    mfu: Annotated[float | None, ratio_doc("Model FLOPs utilisation.", "training")] = None
    data_wait_ms: Annotated[float | None, ms_doc("Waiting for training data.", "training")] = None
    extra: Annotated[
        dict[str, float], Doc("floats", "Other signals of the loop.", "", "training", minimum=None)
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEvent(_Identity):
    """A label, judgement or outcome that arrives after its request and joins it by request_id."""

    request_id: Annotated[Text, text_doc("The request that is judged.", "mlops")]
    label: Annotated[Label, label_doc("Ground truth.", "mlops")] = None
    predicted: Annotated[Label, label_doc("What was predicted.", "mlops")] = None
    accepted: Annotated[bool | None, Doc("bool", "The user took the answer.", "", "playbook")] = (
        None
    )
    satisfaction: Annotated[
        float | None, float_doc("Satisfaction of the user.", "score", "mlops")
    ] = None
    quality: Annotated[
        float | None, float_doc("Quality judged afterwards.", "score", "playbook")
    ] = None
    value: Annotated[float | None, float_doc("Conversion or revenue.", "any", "mlops")] = None
    source: Annotated[Label, label_doc("Who judged (user, rater, model, ...).", "playbook")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseMarker(_Identity):
    """A deploy, or a change of a canary's share: what lines on charts and gates' epochs hang on."""

    release: Annotated[Label, label_doc("The release.", "playbook")]
    model: Annotated[Label, label_doc("Model it carries.", "playbook")] = None
    model_version: Annotated[Label, label_doc("Version of the model.", "playbook")] = None
    adapter: Annotated[Label, label_doc("Adapter it carries.", "playbook")] = None
    variant: Annotated[Label, label_doc("Arm it serves as.", "playbook")] = None
    variant_share: Annotated[float | None, ratio_doc("Share of traffic from now on.", "mlops")] = (
        None
    )
    stage: Annotated[Label, label_doc("canary, ramp, full, rollback, ...", "playbook")] = None
    feature_importance: Annotated[
        dict[str, float],
        Doc("floats", "Feature importances of the model.", "", "mlops", minimum=None),
    ] = field(default_factory=dict)
    note: Annotated[Text, text_doc("For people.", "playbook")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent(_Identity):
    """One operation within a trace; `ts` is its end."""

    trace_id: Annotated[Text, text_doc("The trace.", "mlops")]
    span_id: Annotated[Text, text_doc("This span.", "mlops")] = None
    parent_span_id: Annotated[Text, text_doc("Its parent.", "mlops")] = None
    name: Annotated[Label, label_doc("Operation, such as gateway.auth.", "mlops")] = None
    start_us: Annotated[int | None, Doc("time", "Start of the span.", "us UTC", "mlops")] = None
    duration_ms: Annotated[float | None, ms_doc("Duration.")] = None


Event = RequestEvent | StepEvent | FeedbackEvent | ReleaseMarker | SpanEvent

EVENT_TYPES: dict[EventName, type[Event]] = {
    "request": RequestEvent,
    "step": StepEvent,
    "feedback": FeedbackEvent,
    "release": ReleaseMarker,
    "span": SpanEvent,
}

# Names that other writers use for the same field, accepted in JSON.
ALIASES: dict[EventName, dict[str, str]] = {
    "request": {},
    "step": {},
    "feedback": {},
    "release": {"version": "model_version"},
    "span": {"parent": "parent_span_id", "start": "start_us", "duration": "duration_ms"},
}


@cache
def fields_of(event: EventName) -> tuple[FieldSpec, ...]:
    """The fields of an event in declaration order (identity first)."""
    cls = EVENT_TYPES[event]
    hints: dict[str, Any] = get_type_hints(cls, include_extras=True)
    required = {"ts", "request_id"} if event == "feedback" else {"ts"}
    required |= {"release"} if event == "release" else set()
    required |= {"trace_id"} if event == "span" else set()
    specs = []
    for item in fields(cls):
        hint = hints[item.name]
        assert get_origin(hint) is Annotated
        specs.append(FieldSpec(item.name, get_args(hint)[1], item.name in required))
    return tuple(specs)


@cache
def field_kinds(event: EventName) -> dict[str, Kind]:
    """Name of each field of an event and the kind it is held as."""
    return {spec.name: spec.doc.kind for spec in fields_of(event)}
