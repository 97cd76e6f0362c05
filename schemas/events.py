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

# How a field is held on the wire and in the store.
#   label  few distinct strings (dictionary-coded)      text   many distinct strings
#   ms     milliseconds, kept as integer microseconds   usd    US dollars, kept as integer nano-dollars
#   time   integer microseconds since 1970 UTC          labels a set of strings
#   floats name -> float                                texts  name -> string
Kind = Literal[
    "label", "text", "int", "float", "bool", "ms", "usd", "time", "labels", "floats", "texts"
]

# Integers per unit of the field: what is stored is floor(value * scale + 0.5).
SCALES: dict[str, int] = {"ms": 1_000, "usd": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Doc:
    """What a field means: its wire kind, unit, one line of meaning, and who asked for it.

    `asked_by` names the request of users that the field answers: gates (release gates of an inference
    engine), playbook (LLM monitoring playbook), pipeline (metrics of a translation pipeline), mlops
    (observability of model serving), training (detectors of a training runtime), or penstock (needed
    by the design itself).
    """

    kind: Kind
    meaning: str
    unit: str = ""
    asked_by: str = "penstock"
    values: tuple[str, ...] = ()
    minimum: float | None = 0.0
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of an event: its name and its `Doc`."""

    name: str
    doc: Doc
    required: bool


def _label(meaning: str, asked_by: str = "penstock", values: tuple[str, ...] = ()) -> Doc:
    return Doc("label", meaning, asked_by=asked_by, values=values)


def _text(meaning: str, asked_by: str = "penstock") -> Doc:
    return Doc("text", meaning, asked_by=asked_by)


def _ms(meaning: str, asked_by: str = "mlops") -> Doc:
    return Doc("ms", meaning, unit="ms", asked_by=asked_by)


def _int(meaning: str, unit: str, asked_by: str = "penstock") -> Doc:
    return Doc("int", meaning, unit=unit, asked_by=asked_by)


def _float(
    meaning: str,
    unit: str,
    asked_by: str = "penstock",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Doc:
    return Doc("float", meaning, unit=unit, asked_by=asked_by, minimum=minimum, maximum=maximum)


def _ratio(meaning: str, asked_by: str = "mlops") -> Doc:
    return _float(meaning, "ratio 0..1", asked_by, 0.0, 1.0)


Label = str | None
Text = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What every event carries: when it happened, and who it is."""

    ts: Annotated[int, Doc("time", "Event time: completion of a request, end of a step.", "us UTC")]
    worker_id: Annotated[Label, _label("The process that emits, as its operator names it.")] = None
    boot_id: Annotated[Label, _label("Random id of one start of the worker process.")] = None
    seq: Annotated[
        int | None, _int("Number of the event within its boot, counting up by one.", "count")
    ] = None
    sample_rate: Annotated[
        float | None,
        _float(
            "Probability with which the sampled part of this row was kept.",
            "ratio 0..1",
            "playbook",
            0.0,
            1.0,
        ),
    ] = None
    sample_reason: Annotated[
        Label, _label("Why the sampled part was kept.", "mlops", SAMPLE_REASONS)
    ] = None
    attributes: Annotated[
        dict[str, str], Doc("texts", "Anything else; unknown fields of newer writers survive here.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent(_Identity):
    """One request to a model, told when it completes (or once while it is overdue)."""

    request_id: Annotated[Text, _text("Id of the request; feedback joins by it.", "mlops")] = None
    trace_id: Annotated[Text, _text("Correlates the request across services.", "playbook")] = None
    span_id: Annotated[Text, _text("Span of this request within its trace.", "playbook")] = None
    parent_span_id: Annotated[Text, _text("Span that caused this one.", "mlops")] = None
    session_id: Annotated[Text, _text("Conversation or agent session.")] = None
    tenant: Annotated[Label, _label("Customer or team that is charged.")] = None
    user_hash: Annotated[Text, _text("Keyed hash of the user id.", "playbook")] = None
    client_ip_hash: Annotated[Text, _text("Keyed hash of the client address.", "mlops")] = None
    user_agent: Annotated[Label, _label("Client software.", "mlops")] = None
    model: Annotated[Label, _label("Model that answered.", "playbook")] = None
    model_version: Annotated[Label, _label("Semantic version of the model.", "playbook")] = None
    adapter: Annotated[Label, _label("Adapter (LoRA) merged for the request.", "playbook")] = None
    route: Annotated[Label, _label("API route or feature.", "playbook")] = None
    release: Annotated[Label, _label("Deployed release that served it.", "playbook")] = None
    variant: Annotated[Label, _label("control, canary or shadow.", "playbook")] = None
    experiment: Annotated[Label, _label("Experiment that assigned the variant.", "mlops")] = None
    status: Annotated[
        Label,
        _label(
            "Outcome; absent it means ok, or error where error_type is given; none while overdue.",
            "mlops",
            STATUSES,
        ),
    ] = None
    error_type: Annotated[Label, _label("Kind of failure.", "playbook", ERROR_TYPES)] = None
    error_message: Annotated[Text, _text("Message of the failure, redacted.", "mlops")] = None
    finish_reason: Annotated[Label, _label("Why generation ended (stop, length, ...).")] = None
    input_tokens: Annotated[int | None, _int("Prompt tokens.", "tokens", "playbook")] = None
    output_tokens: Annotated[int | None, _int("Generated tokens.", "tokens", "playbook")] = None
    cached_tokens: Annotated[
        int | None, _int("Prompt tokens served from the prefix cache.", "tokens", "playbook")
    ] = None
    reasoning_tokens: Annotated[int | None, _int("Generated tokens not shown.", "tokens")] = None
    input_bytes: Annotated[int | None, _int("Size of the request.", "bytes", "mlops")] = None
    output_bytes: Annotated[int | None, _int("Size of the response.", "bytes", "mlops")] = None
    input_hash: Annotated[Text, _text("Hash of the input, to find repeats.", "mlops")] = None
    http_status: Annotated[int | None, _int("HTTP status answered.", "code", "pipeline")] = None
    severity: Annotated[Label, _label("Severity of the error.", "pipeline")] = None
    region: Annotated[Label, _label("Region that served it.", "mlops")] = None
    pair_id: Annotated[Text, _text("Same id on a request and its mirrored twin.", "playbook")] = (
        None
    )
    item_id: Annotated[Text, _text("Question of an evaluation set.", "gates")] = None
    latency_ms: Annotated[float | None, _ms("End to end.", "playbook")] = None
    overdue: Annotated[
        bool | None,
        Doc("bool", "Was in flight longer than overdue_ms; announced once with status null."),
    ] = None
    queue_ms: Annotated[float | None, _ms("Waiting before the engine took it.")] = None
    batch_wait_ms: Annotated[float | None, _ms("Waiting for a batch to fill.")] = None
    tokenize_ms: Annotated[float | None, _ms("Tokenizing.", "gates")] = None
    transport_ms: Annotated[float | None, _ms("Between processes.", "gates")] = None
    preprocess_ms: Annotated[float | None, _ms("Input transformation.")] = None
    prefill_ms: Annotated[float | None, _ms("Prompt processing.", "gates")] = None
    ttft_ms: Annotated[float | None, _ms("Time to first token.", "gates")] = None
    tpot_ms: Annotated[float | None, _ms("Time per output token after the first.", "gates")] = None
    decode_ms: Annotated[float | None, _ms("Generation after the first token.", "gates")] = None
    inference_ms: Annotated[float | None, _ms("Model computation.")] = None
    postprocess_ms: Annotated[float | None, _ms("Output transformation.")] = None
    detokenize_ms: Annotated[float | None, _ms("Detokenizing.", "gates")] = None
    cache_hit: Annotated[bool | None, Doc("bool", "KV or prompt cache hit.", "", "playbook")] = None
    cost_usd: Annotated[float | None, Doc("usd", "Cost of the request.", "USD", "playbook")] = None
    safety_flags: Annotated[
        frozenset[str],
        Doc(
            "labels", f"Violations found: {', '.join(SAFETY_FLAGS)}, or own names.", "", "playbook"
        ),
    ] = frozenset()
    output_class: Annotated[Label, _label("Predicted class.", "mlops")] = None
    output_score: Annotated[float | None, _ratio("Confidence of the prediction.")] = None
    quality: Annotated[
        float | None, _float("Quality score of the answer.", "score", "playbook")
    ] = None
    features: Annotated[
        dict[str, float],
        Doc("floats", "Sampled model inputs, for drift.", "", "mlops", minimum=None),
    ] = field(default_factory=dict)
    categories: Annotated[
        dict[str, str], Doc("texts", "Sampled categorical inputs, for drift.", "", "mlops")
    ] = field(default_factory=dict)
    payload: Annotated[Text, _text("Sampled, redacted prompt and response (JSON).", "playbook")] = (
        None
    )
    first_step: Annotated[int | None, _int("First engine step that served it.", "step")] = None
    last_step: Annotated[int | None, _int("Last engine step that served it.", "step")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(_Identity):
    """One turn of an engine, training or evaluation loop, or one reading of a device."""

    kind: Annotated[Label, _label("Which loop.", "gates", STEP_KINDS)] = "engine"
    model: Annotated[Label, _label("Model the step ran.", "playbook")] = None
    model_version: Annotated[Label, _label("Semantic version of the model.", "playbook")] = None
    adapter: Annotated[Label, _label("Adapter in use.", "playbook")] = None
    release: Annotated[Label, _label("Deployed release.", "playbook")] = None
    variant: Annotated[Label, _label("control, canary or shadow.", "playbook")] = None
    step: Annotated[int | None, _int("Number of the step within its boot.", "step", "training")] = (
        None
    )
    step_ms: Annotated[float | None, _ms("Duration of the step.", "gates")] = None
    batch_size: Annotated[int | None, _int("Sequences in the batch.", "count", "mlops")] = None
    batch_capacity: Annotated[
        int | None, _int("Sequences the batch could hold.", "count", "playbook")
    ] = None
    prefill_tokens: Annotated[int | None, _int("Prompt tokens processed.", "tokens", "gates")] = (
        None
    )
    decode_tokens: Annotated[int | None, _int("Tokens generated.", "tokens", "gates")] = None
    queue_prefill: Annotated[
        int | None, _int("Requests waiting for prefill.", "count", "gates")
    ] = None
    queue_decode: Annotated[int | None, _int("Requests waiting for decode.", "count", "gates")] = (
        None
    )
    running: Annotated[int | None, _int("Requests in flight.", "count", "gates")] = None
    inflight_decode_tokens: Annotated[
        int | None, _int("Tokens held by sequences in decode.", "tokens", "gates")
    ] = None
    kv_cache_usage: Annotated[float | None, _ratio("Share of the KV cache in use.", "playbook")] = (
        None
    )
    preemptions: Annotated[int | None, _int("Sequences preempted in the step.", "count")] = None
    tokenize_ms: Annotated[float | None, _ms("Tokenizing.", "gates")] = None
    tokenize_items: Annotated[int | None, _int("Items tokenized.", "count", "gates")] = None
    detokenize_ms: Annotated[float | None, _ms("Detokenizing.", "gates")] = None
    detokenize_items: Annotated[int | None, _int("Items detokenized.", "count", "gates")] = None
    transport_ms: Annotated[float | None, _ms("Between processes.", "gates")] = None
    backend: Annotated[Label, _label("Compute backend selected.", "gates")] = None
    backend_fallback: Annotated[
        Label, _label("Why the backend fell back.", "gates", BACKEND_FALLBACKS)
    ] = None
    gpu_id: Annotated[Label, _label("Device.", "mlops")] = None
    gpu_utilization: Annotated[float | None, _ratio("Share of time the device computed.")] = None
    gpu_memory_used_bytes: Annotated[
        int | None, _int("Device memory in use.", "bytes", "mlops")
    ] = None
    gpu_memory_allocated_bytes: Annotated[
        int | None, _int("Device memory held by the allocator.", "bytes", "mlops")
    ] = None
    gpu_memory_total_bytes: Annotated[int | None, _int("Device memory.", "bytes", "mlops")] = None
    gpu_temperature_c: Annotated[
        float | None, _float("Device temperature.", "degC", "pipeline")
    ] = None
    cpu_utilization: Annotated[float | None, _ratio("Share of host CPU in use.", "pipeline")] = None
    host_memory_bytes: Annotated[int | None, _int("Host memory in use.", "bytes", "pipeline")] = (
        None
    )
    host_memory_total_bytes: Annotated[int | None, _int("Host memory.", "bytes", "pipeline")] = None
    disk_bytes: Annotated[int | None, _int("Disk in use.", "bytes", "pipeline")] = None
    network_bytes: Annotated[int | None, _int("Bytes sent and received.", "bytes", "pipeline")] = (
        None
    )
    cache_evictions: Annotated[int | None, _int("Cache entries evicted.", "count", "pipeline")] = (
        None
    )
    cache_bytes: Annotated[int | None, _int("Cache size.", "bytes", "pipeline")] = None
    mem_peak_mb: Annotated[float | None, _float("Peak memory.", "MB", "training", 0.0)] = None
    model_load_s: Annotated[float | None, _float("Time to load the model.", "s", "mlops", 0.0)] = (
        None
    )
    expected_replicas: Annotated[int | None, _int("Replicas wanted.", "count", "mlops")] = None
    healthy_replicas: Annotated[int | None, _int("Replicas that answer.", "count", "mlops")] = None
    retry_rate: Annotated[float | None, _ratio("Share of work retried.", "training")] = None
    loss: Annotated[float | None, _float("Training or evaluation loss.", "loss", "training")] = None
    grad_norm: Annotated[float | None, _float("Gradient norm.", "norm", "training", 0.0)] = None
    learning_rate: Annotated[float | None, _float("Learning rate.", "rate", "training", 0.0)] = None
    tokens_per_s: Annotated[float | None, _float("Throughput.", "tokens/s", "playbook", 0.0)] = None
    mfu: Annotated[float | None, _ratio("Model FLOPs utilisation.", "training")] = None
    data_wait_ms: Annotated[float | None, _ms("Waiting for training data.", "training")] = None
    extra: Annotated[
        dict[str, float], Doc("floats", "Other signals of the loop.", "", "training", minimum=None)
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEvent(_Identity):
    """A label, judgement or outcome that arrives after its request and joins it by request_id."""

    request_id: Annotated[Text, _text("The request that is judged.", "mlops")]
    label: Annotated[Label, _label("Ground truth.", "mlops")] = None
    predicted: Annotated[Label, _label("What was predicted.", "mlops")] = None
    accepted: Annotated[bool | None, Doc("bool", "The user took the answer.", "", "playbook")] = (
        None
    )
    satisfaction: Annotated[float | None, _float("Satisfaction of the user.", "score", "mlops")] = (
        None
    )
    quality: Annotated[float | None, _float("Quality judged afterwards.", "score", "playbook")] = (
        None
    )
    value: Annotated[float | None, _float("Conversion or revenue.", "any", "mlops")] = None
    source: Annotated[Label, _label("Who judged (user, rater, model, ...).", "playbook")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseMarker(_Identity):
    """A deploy, or a change of a canary's share: what lines on charts and gates' epochs hang on."""

    release: Annotated[Label, _label("The release.", "playbook")]
    model: Annotated[Label, _label("Model it carries.", "playbook")] = None
    model_version: Annotated[Label, _label("Version of the model.", "playbook")] = None
    adapter: Annotated[Label, _label("Adapter it carries.", "playbook")] = None
    variant: Annotated[Label, _label("Arm it serves as.", "playbook")] = None
    variant_share: Annotated[float | None, _ratio("Share of traffic from now on.", "mlops")] = None
    stage: Annotated[Label, _label("canary, ramp, full, rollback, ...", "playbook")] = None
    feature_importance: Annotated[
        dict[str, float],
        Doc("floats", "Feature importances of the model.", "", "mlops", minimum=None),
    ] = field(default_factory=dict)
    note: Annotated[Text, _text("For people.", "playbook")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent(_Identity):
    """One operation within a trace; `ts` is its end."""

    trace_id: Annotated[Text, _text("The trace.", "mlops")]
    span_id: Annotated[Text, _text("This span.", "mlops")] = None
    parent_span_id: Annotated[Text, _text("Its parent.", "mlops")] = None
    name: Annotated[Label, _label("Operation, such as gateway.auth.", "mlops")] = None
    start_us: Annotated[int | None, Doc("time", "Start of the span.", "us UTC", "mlops")] = None
    duration_ms: Annotated[float | None, _ms("Duration.")] = None


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


def stored_name(spec: FieldSpec) -> str:
    """Name of the column that holds the field in a decoded batch and in a writer's table.

    Scaled integers say their unit: `latency_ms` is held as `latency_us`, `cost_usd` as
    `cost_nanousd`. The published views give the field's own name and unit back.
    """
    if spec.doc.kind == "ms":
        return spec.name.removesuffix("_ms") + "_us"
    if spec.doc.kind == "usd":
        return spec.name.removesuffix("_usd") + "_nanousd"
    return spec.name
