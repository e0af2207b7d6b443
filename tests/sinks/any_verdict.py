"""Any verdict that Runflow could ever say, with the texts that have done harm in Slack."""

from hypothesis import strategies as st

from receiver.core.verdict import Action, GateFailure, Issue, Judge, Verdict
from tests.sinks.messages import RECEIVED

HOSTILE = st.sampled_from(
    ["<!channel>", "<!here>", "<@U012AB3CD>", "<#C012AB3CD>", "<https://evil.example|click>", "&lt;!channel&gt;", "*bold*",
     "`code`", "~gone~", "_it_", "@here", "@channel", "https://evil.example", "<mailto:a@b.c|a>", "\n> quote", ":wave:",
     "<!date^0^{date}|x>", "<!subteam^S1>", "\u202e", "\0", "&", "<", ">", "🙂", "\U0010ffff", "\u200b"]
)  # fmt: skip
ANY_TEXT = st.one_of(
    st.text(max_size=300),
    st.lists(HOSTILE, max_size=400).map("".join),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=3), st.integers(1, 5000)),
)
MAYBE = st.none() | ANY_TEXT
MAYBE_TEXTS = st.lists(ANY_TEXT, max_size=8)
SHARES = st.none() | st.floats(allow_nan=True, allow_infinity=True)
VERDICTS = st.builds(
    Verdict,
    evaluation_id=st.uuids(),
    event=st.sampled_from(["evaluation.completed", "evaluation.failed"]) | ANY_TEXT,
    overall_passed=st.none() | st.booleans(),
    weighted_pass_rate=SHARES,
    top_issues=MAYBE_TEXTS,
    primary_action_code=MAYBE,
    failure_code=MAYBE,
    client_ref=MAYBE,
    run_id=MAYBE,
    task_type=MAYBE,
    generated_image_url=MAYBE | ANY_TEXT.map("https://".__add__),
    received_at=st.just(RECEIVED),
    judges=st.lists(
        st.builds(
            Judge, name=MAYBE, passed=st.none() | st.booleans(), confidence=SHARES, weight=SHARES, reasoning=MAYBE
        ),
        max_size=8,
    ),
    issues=st.lists(st.builds(Issue, judge=MAYBE, category=MAYBE, detail=MAYBE), max_size=2),
    gate_failures=st.lists(st.builds(GateFailure, output_key=MAYBE, module=MAYBE, reason=MAYBE), max_size=8),
    action=st.none() | st.builds(Action, primary_action=MAYBE, failure_summary=MAYBE, improved_prompt=MAYBE),
    tree=st.sampled_from(["complete", "unavailable"]),
    tree_reason=MAYBE,
    origin=st.sampled_from(["callback", "reconciled", "sample"]),
    revision=st.integers(1, 10**9),
)
