"""Specifications that `penstock gate init` writes. Margins are examples: they have no defaults."""

from __future__ import annotations

_RATES = """\
    alpha_fail: 0.01      # chance of ever failing what keeps its limits, over all metrics
    alpha_pass: 0.05      # chance of ever passing what breaks one throughout
"""
_POLICIES = """\
    on_no_data: block                 # block, allow or hold: what follows without data
    on_undecided_at_deadline: hold    # and without a decision
"""

_PARITY = f"""\
gates:
  - id: parity
    kind: parity
    run: results/new.jsonl            # or --run; CSV, JSONL, Parquet, lm_eval --log_samples output
    baseline: results/baseline.jsonl  # or --baseline
    item: item_id                     # column that pairs the two files (lm_eval needs none)
    # items: 1319                     # size of the fixed question set, if there is one
    max_missing_ratio: 0              # share of items that a file may lack; they count as lost
    min_units: 200
    metrics:
      - metric: correct               # of lm_eval: acc, or exact_match,strict-match
        kind: binary                  # binary: two values; score: anything within range
        direction: higher
        margin: 0.02                  # mean loss per item that is still allowed
        # fail_above: 0               # FAIL at any loss that is shown: McNemar's test
      # - metric: text                # tokens or texts, position by position
      #   kind: tokens
      #   max_mismatch_ratio: 0.01
{_RATES}{_POLICIES}"""

_PERF = f"""\
gates:
  - id: perf
    kind: perf
    run: bench/new.json               # or --run; pytest-benchmark, vllm bench serve, step events, ...
    baseline: bench/baseline.json     # or --baseline
    warmup: 20                        # values left out at the start of each run
    # block: 20                       # values of a block; default: ten autocorrelation times
    metrics:
      - {{metric: ttft_ms, statistic: p95, direction: lower, margin_ratio: 1.1}}
      - {{metric: output_tokens, statistic: per_s, direction: higher, margin_ratio: 1.05}}
    max_stall_ratio: 10               # longest time, against the baseline's longest
    max_failed_ratio: 0               # share of requests or steps that may have failed
    # may_differ: [model_id]          # conditions of the two runs that need not be equal
{_RATES}{_POLICIES}"""

_SHADOW = f"""\
gates:
  - id: shadow
    kind: shadow
    run: shadow.parquet               # or --run; the mirrored twins
    baseline: control.parquet         # or --baseline; what users were served
    pair: pair_id                     # column that pairs a request and its twin
    slices: [route]                   # each value can fail the gate by itself
    max_unpaired_ratio: 0.01
    metrics:
      - {{metric: accepted, kind: binary, direction: higher, margin: 0.02}}
      - {{metric: quality, kind: score, range: [0, 1], direction: higher, margin: 0.02}}
    sigma: 3                          # a drop by so many spreads of the baseline's own blocks
    block: 25                         # pairs of a block, in the order of time
{_RATES}{_POLICIES}"""

_STABILITY = f"""\
gates:
  - id: stability
    kind: stability
    run: bench/new.json               # or --run
    warmup: 20
    metrics:
      - metric: step_ms
        max_cv: 0.1                   # coefficient of variation of the blocks
        max_drift_ratio: 0.1          # change from the run's start to its end, either way
    max_burst_ratio: 0.1              # share of neighbouring blocks that differ by three times max_cv
    max_stall_ratio: 20               # longest time, against the run's median
{_RATES}{_POLICIES}"""

_TRAINING = f"""\
gates:
  - id: training
    kind: training
    run: steps.jsonl                  # or --run; step events
    warmup: 100                       # steps left out at the start
    block: 20                         # steps of a block, longer than what makes them alike
    loss: loss
    min_loss_drop_ratio: 0.05         # a run that never trained never passes
    metrics:
      - {{metric: loss, margin_ratio: 1.1}}
      - {{metric: grad_norm, margin_ratio: 2}}
      - {{metric: step_ms, margin_ratio: 1.1}}
      - {{metric: mfu, margin_ratio: 1.1, critical: false}}
{_RATES}{_POLICIES}"""

_ABSOLUTE = f"""\
gates:
  - id: limits
    kind: absolute                    # on a server, or with `gate run --run requests.jsonl`
    filter: {{model: chat-8b, variant: canary}}
    metrics:
      - {{metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 1200}}
      - {{metric: error_rate, max_ratio: 0.01}}
      - {{metric: safety_rate, max_ratio: 0.001}}
      - {{metric: cost_per_1k_tokens_usd, max_usd: 0.01, cap_usd: 0.02}}
    min_units: 500                    # requests before a PASS
    min_bake_s: 300                   # event time from the first request to a PASS
    min_coverage: 0.99                # share of the traffic known to have been measured
    deadline_s: 3600
{_RATES}{_POLICIES}"""

_CANARY = f"""\
gates:
  - id: canary
    kind: canary
    control: {{model: chat-8b, variant: control}}
    treatment: {{model: chat-8b, variant: canary}}
    share: 0.1                        # configured share of the treatment, for the sample-ratio check
    unit: request                     # request, session or user: what rates count once
    metrics:
      - {{metric: error_rate, margin_ratio: 1.5, floor_ratio: 0.005}}
      - {{metric: safety_rate, margin_ratio: 2, floor_ratio: 0.001}}
      - {{metric: latency, field: ttft_ms, quantile: 0.95, margin_ratio: 1.1}}
    # strata: [prompt_length]         # only what the treatment cannot change
    baseline_health:
      - {{metric: error_rate, max_ratio: 0.05}}
    min_units: 500
    min_bake_s: 600
    min_coverage: 0.99
    deadline_s: 7200
{_RATES}{_POLICIES}"""

_BUDGET = f"""\
gates:
  - id: may-we-deploy
    kind: budget
    slo: chat-availability            # id of an objective of this file
    min_left_ratio: 0.25              # share of the error budget that must be left
    severities: [warning, critical, emergency]  # burn-rate rules that block while in alarm
{_POLICIES}"""

_ROLLBACK = f"""\
gates:
  - id: rollback
    kind: rollback                    # always on after a release: FAIL, or still watching
    treatment: {{model: chat-8b, variant: canary}}
    baseline: {{model: chat-8b, variant: control}}
    limits:
      - {{metric: latency, field: latency_ms, quantile: 0.95, max_ms: 1200}}
      - {{metric: error_rate, max_ratio: 0.01}}
      - {{metric: safety_rate, max_ratio: 0.001}}
      - {{metric: acceptance_drop, sigmas: 3}}
    for_s: 300                        # how long a limit must be broken
    alpha_fail: 0.01                  # chance of a false alarm within 30 days
{_POLICIES}"""

TEMPLATES = {
    "parity": _PARITY,
    "perf": _PERF,
    "shadow": _SHADOW,
    "stability": _STABILITY,
    "training": _TRAINING,
    "absolute": _ABSOLUTE,
    "canary": _CANARY,
    "budget": _BUDGET,
    "rollback": _ROLLBACK,
}
"""Kind of gate -> text of a file with one."""
