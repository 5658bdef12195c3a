// Metrics of clips: which come first, which are bad when they are high, and how clips are ordered by one.

export const FIRST = ["dst_update_f1", "should_update_dst_f1", "joint_state_accuracy", "when_to_speak_f1", "F1", "judge_overall", "missed", "late", "repeated",
  "spurious", "wrong_step", "speech_missed", "speech_repeated", "speech_spurious"];
const HIGH_IS_BAD = /early|late|miss|mismatched|repeated|spurious|wrong|redundant|delay|time_diff|tokens|restarts/;

// The metrics that some clip has, the first ones first.
export function metricNames(clips) {
  const there = new Set(clips.flatMap(clip => Object.keys(clip.metrics)));
  return [...new Set([...FIRST, ...there])].filter(name => there.has(name));
}

// How much better `b` is than `a`; null where one of them has no value.
export function better(name, a, b) {
  const [one, other] = [a.metrics[name] ?? null, b.metrics[name] ?? null];
  return one === null || other === null ? null : HIGH_IS_BAD.test(name) ? one - other : other - one;
}

// Worst first by a metric; clips without it come last.
export function worstFirst(name) {
  return (a, b) => {
    const missing = clip => (clip.metrics[name] ?? null) === null;
    return missing(a) || missing(b) ? missing(a) - missing(b) : -better(name, a, b);
  };
}
