// Words and numbers as people read them.

// 75.3 -> "1:15.3"; hours only where there are some; `digits` after the point.
export function clock(seconds, digits = 1) {
  const scale = 10 ** digits, whole = Math.round(Math.abs(seconds) * scale) / scale;
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const rest = (whole % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  const told = hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  return seconds < 0 && whole ? `−${told}` : told;
}

// 2.5 -> "2.5 s", 75.3 -> "1:15"
export function duration(seconds) {
  return seconds < 60 ? `${Number(seconds.toFixed(1))} s` : clock(seconds, 0);
}

// "S3 Place the red rod"; the id alone where the step has no name.
export function stepName(steps, id) {
  const step = steps.find(one => one.id === id);
  return step && step.name ? `${id} ${step.name}` : id;
}

// "S3->complete" -> "S3 complete: Place the red rod"
export function updateName(steps, step, transition) {
  const named = steps.find(one => one.id === step);
  return `${step} ${transition}${named ? `: ${named.name}` : ""}`;
}

export function short(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("").trimEnd()}…` : text;
}

// count(1, "clip") -> "1 clip", count(2, "clip") -> "2 clips"
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function words(name) {
  return name.replaceAll("_", " ");
}
