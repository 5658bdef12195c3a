// Which cards meet the filters, where there is no server to ask; as `Clips.found` of prospect/web/browse/clips.py does.

export function matching(cards, {text = "", step = "", kind = "", of = "", run = "", error = ""}) {
  const has = counts => Boolean(counts?.[error]);
  return cards.filter(card => card.text.includes(text.toLowerCase()) && card.steps.includes(step.toLowerCase())
    && (!kind || card[`num_${kind}`] > 0) && (!of || card.of === of)
    && (!error || (run ? has(card.mistakes[run]) : Object.values(card.mistakes).some(has))));
}
