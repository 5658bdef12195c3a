// One sequence of tokens, as a file: `prospect inspect-shard --tokens --html`.

import {data, el} from "../dom.js";
import {drawTokens} from "../tokens.js";

const tokens = data("tokens"), root = el("section", {});
document.body.append(el("main", {}, el("h1", {}, `Tokens of ${tokens.clip}`), el("p", {class: "faint"}, tokens.key), root));
drawTokens(root, tokens);
