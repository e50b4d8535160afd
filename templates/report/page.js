"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const styles = new Map(read("styles").map(([name, colour, shape]) => [name, { colour, shape }]));
  const $ = (id) => document.getElementById(id);
  const SIGNS = {
    circle: "●", square: "■", diamond: "◆", cross: "✚",
    "triangle-up": "▲", "triangle-down": "▼", "triangle-right": "▶",
  };
  const PAGE = 25; // rows of the table that are shown before they are asked for

  // ---- texts -----------------------------------------------------------------------------------
  const missing = (value) => value === null || value === undefined;
  const percent = (value, digits = 1) =>
    {
    if (missing(value)) return "";
    const shown = Math.abs(100 * value).toFixed(digits);
    return `${value < 0 && Number(shown) ? "−" : ""}${shown}%`;
  };
  const times = (value) => (missing(value) ? "" : `${value.toFixed(2)}x`);
  const signed = (value) => (missing(value) ? "" : value.toFixed(2).replace("-", "−"));
  const plusMinus = (error) => (missing(error) ? "" : `±${percent(error)}`);
  const gib = (bytes) => (missing(bytes) ? "" : `${(bytes / 2 ** 30).toPrecision(3)} GiB`);
  const seconds = (value) =>
    missing(value) ? "" : value < 0.1 ? `${(1000 * value).toPrecision(2)} ms` : `${value.toPrecision(2)} s`;
  const titled = (view) => `${view.configuration.model}, ${view.configuration.scheduler}, ${view.configuration.steps} steps`;

  /** An element with attributes and children; texts are never read as HTML. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") Object.entries(value).forEach(([event, does]) => element.addEventListener(event, does));
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && !missing(value)) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => !missing(child)));
    return element;
  }

  const button = (text, does, attributes = {}) =>
    make("button", { type: "button", ...attributes, on: { click: does } }, ...[text].flat());
  const note = (text, attributes = {}) => (text ? make("small", attributes, text) : null);
  const headings = (...cells) =>
    make("thead", {}, make("tr", {}, ...cells.map((cell) => make("th", { scope: "col" }, ...[cell].flat()))));

  const sign = (name) => {
    const style = styles.get(name);
    return make("span", { class: "sign", style: `color:${style.colour}`, "aria-hidden": "true" }, SIGNS[style.shape]);
  };

  const best = (series) => (series.bound === null ? null : series.points[series.bound]);
  const range = (point) => `${percent(point.low)} to ${percent(point.high)}`;
  const fewerSteps = data.configurations.flatMap((view) => view.series).filter((series) => series.is_fewer_steps);
  const FEWER = fewerSteps.length ? fewerSteps[0].name.replace(/^./, (first) => first.toUpperCase()) : "Fewer steps";

  // ---- filters ---------------------------------------------------------------------------------
  const AXES = ["model", "scheduler", "steps", "accelerators"];
  const chosen = { model: "", scheduler: "", steps: "", accelerators: "" };
  const rowsOf = ({ columns, rows }) => rows.map((row) => Object.fromEntries(row.map((value, n) => [columns[n], value])));
  const rows = rowsOf(data.table);

  const passes = (model, scheduler, steps) =>
    (!chosen.model || model === chosen.model) &&
    (!chosen.scheduler || scheduler === chosen.scheduler) &&
    (!chosen.steps || String(steps) === chosen.steps);
  const shown = (view) => passes(view.configuration.model, view.configuration.scheduler, view.configuration.steps);
  const wanted = (name) => !chosen.accelerators || name === chosen.accelerators;
  const visible = (series) => series.is_fewer_steps || wanted(series.name);
  const isFewerSteps = () => fewerSteps.some((series) => series.name === chosen.accelerators);

  function fillFilters() {
    const values = {
      model: data.configurations.map((view) => view.configuration.model),
      scheduler: data.configurations.map((view) => view.configuration.scheduler),
      steps: data.configurations.map((view) => view.configuration.steps).sort((a, b) => a - b),
      accelerators: [...styles.keys()],
    };
    for (const axis of AXES) {
      const select = $(`filter-${axis}`);
      select.append(make("option", { value: "" }, "all"));
      new Set(values[axis]).forEach((value) => select.append(make("option", { value }, String(value))));
      select.addEventListener("change", () => { chosen[axis] = select.value; keep(); show(); });
    }
    $("filters").addEventListener("reset", () => { AXES.forEach((axis) => { chosen[axis] = ""; }); keep(); show(); });
    window.addEventListener("hashchange", () => { recall(); show(); });
    recall();
    $("filters").addEventListener("submit", (event) => event.preventDefault());
  }

  // The link to this page keeps what was chosen: #?model=SD1.5&steps=20
  function keep() {
    const given = AXES.filter((axis) => chosen[axis]).map((axis) => [axis, chosen[axis]]);
    history.replaceState(null, "", `#?${new URLSearchParams(given)}`);
  }

  function recall() {
    if (!location.hash.startsWith("#?")) return; // the name of a part of the page
    const given = new URLSearchParams(location.hash.slice(2));
    for (const axis of AXES) {
      const select = $(`filter-${axis}`);
      const value = given.get(axis) || "";
      chosen[axis] = [...select.options].some((option) => option.value === value) ? value : "";
      select.value = chosen[axis];
    }
  }

  // ---- what to use -----------------------------------------------------------------------------
  const use = (series) => (series.sure === null ? null : series.points[series.sure]);
  const faster = (speed) => (a, b) => (!a || speed(b) > speed(a) ? b : a);

  /** The series whose clear candidate is the fastest; fewer steps, where these are. */
  const advised = (view, able = visible) =>
    view.series.filter((s) => able(s) && use(s)).reduce(faster((s) => use(s).speedup), null);

  /** Of the series that may have something faster within the limit, the one that the fewest prompts would make clear. */
  const may = (series) => series.points[series.doubt.place];
  const effort = (series) => [series.doubt.more ?? Infinity, -may(series).speedup];
  const easier = (a, b) => {
    if (!a) return b;
    const [[x, y], [u, v]] = [effort(a), effort(b)];
    return u < x || (u === x && v < y) ? b : a;
  };
  function doubtful(view, series) {
    const least = series ? use(series).speedup : 1;
    return view.series
      .filter((s) => !s.is_fewer_steps && wanted(s.name) && s.doubt && may(s).speedup > least)
      .reduce(easier, null);
  }

  const short = (series, point) => `${times(point.speedup)}, loss ${percent(point.loss)} (${range(point)})`;
  const about = (view) => `${view.configuration.model} with ${view.configuration.scheduler} at ${view.configuration.steps} steps`;

  /** What holds for all that is shown. */
  function headline(views) {
    if (!$("headline")) return;
    const pick = (of) => views.map((view) => [view, of(view)]).filter(([, series]) => series);
    const [view, series] = pick((each) => advised(each)).reduce(faster(([, s]) => use(s).speedup), null) || [];
    const [other, open] = pick((each) => doubtful(each, series))
      .reduce((a, b) => (a && easier(a[1], b[1]) === a[1] ? a : b), null) || [];
    const limit = (each, point) => percent(each.limit, 2).replace(/\.?0+%/, "%")
      + Object.keys(point.used).map((words) => `, ${words}`).join("");
    let title = "Nothing faster is clearly below the limit";
    const parts = [];
    if (series) {
      title = `${use(series).speedup.toFixed(2)} times as fast, with a loss clearly below ${limit(view, use(series))}`;
      parts.push(`${about(view)}, by ${series.name}, on ${data.device}.`);
      if (series.is_fewer_steps && !isFewerSteps()) parts.push("No accelerator is clearly faster.");
    } else if (open) title = "Nothing faster is clear yet";
    const doubt = open && `${about(other)}, ${open.name}, ${short(open, may(open))}; ${open.doubt.telling}.`;
    $("headline-doubt").textContent = doubt ? `Not clear yet: ${doubt}` : "";
    if (!series && !open) parts.push("The frontiers below show what was found.");
    parts.push("The loss is that of the CLIP score, relative to the baseline pipeline with the same prompts and seeds.");
    if (!missing(data.error)) parts.push(`The median standard error of the speedups is ${percent(data.error)}.`);
    $("headline").textContent = title;
    $("headline-about").textContent = parts.join(" ");
  }

  /** One of a configuration's images, which takes its room before it is there. */
  const picture = (view, number, alt, from = data.pictures) => {
    const source = missing(number) ? "" : from[number];
    return source ? make("img", { src: source, alt, width: view.width, height: view.height }) : null;
  };

  function card(view) {
    const made = $("card").content.cloneNode(true).firstElementChild;
    const [title, figure, numbers, pair, asked, unmet, does] = made.children;
    const visits = does.firstElementChild;
    const series = advised(view);
    const point = series && use(series);
    const open = doubtful(view, series);
    title.append(make("strong", {}, view.configuration.model), ` ${view.configuration.scheduler}, ${view.configuration.steps} steps`);
    if (point) {
      figure.append(times(point.speedup), make("span", {}, ` ${plusMinus(point.error)} `, sign(series.name), ` ${series.name}`));
      entry(numbers, "Loss", `${percent(point.loss)} (${range(point)}), clearly below ${percent(view.limit)}`);
      for (const [words, used] of Object.entries(point.used)) entry(numbers, words, `${percent(used)} of it used`);
      entry(numbers, "An image takes", `${seconds(point.seconds)} instead of ${seconds(view.seconds)}`);
      if (!missing(point.memory)) entry(numbers, "Memory", gib(point.memory));
      if (point.eyes) entry(numbers, "By eye", point.eyes);
      entry(numbers, "Parameters", point.parameters);
      if (data.scripts[series.script]) does.append(button("Script", () => showScript({ id: series.script })));
      does.append(button("Recipe", () => showRecipe(view, series)));
      const other = advised(view, (each) => visible(each) && each.is_fewer_steps !== series.is_fewer_steps);
      const name = series.is_fewer_steps ? "Fastest accelerator that is clear" : `${FEWER} alone`;
      if (other) entry(numbers, name, `${series.is_fewer_steps ? `${other.name}, ` : ""}${short(other, use(other))}`);
    } else {
      figure.append(make("span", {}, open ? "Nothing faster is clear yet" : "Nothing faster is clearly below the limit"));
    }
    if (open) {
      const { telling, command } = open.doubt;
      entry(numbers, "Not clear yet", `${open.name}, ${short(open, may(open))}; ${telling}${command ? ": " : ""}`);
      if (command) numbers.lastElementChild.append(make("code", {}, command));
    }
    if (view.series.some((each) => wanted(each.name) && !each.is_fewer_steps && each.time_up)) {
      entry(numbers, "Search", "ended by its time limit (search.budget) before it was done");
    }
    const baseline = point && picture(view, view.baseline[0], "baseline pipeline");
    const fast = point && picture(view, point.images[0], `with ${series.name}`);
    if (baseline && fast) {
      pair.firstElementChild.append(baseline, fast);
      pair.lastElementChild.append(`Baseline and accelerated: “${view.prompts[0]}”`);
    } else pair.remove();
    const answers = view.targets.map((target) => [target, answerAt(view, target)]).filter(([, row]) => row);
    answers.forEach(([target, row]) => asked.lastElementChild.append(make("li", {},
      make("strong", {}, `${target}x`), `: ${row.accelerators}, ${times(row.speedup)}, loss ${percent(row.loss)}` +
      `${row.clear === false ? "?" : ""} `,
      data.scripts[row.id] ? link("script", script(row), () => showScript(row)) : null)));
    if (!answers.length) asked.remove();
    const failing = view.unmet.filter((one) => !one.accelerators || wanted(one.accelerators));
    if (failing.length) {
      unmet.firstElementChild.append(`${failing.length} of the speedups asked for cannot be reached`);
      failing.forEach((one) => unmet.lastElementChild.append(make("li", {},
        make("strong", {}, [one.accelerators, one.required].filter(Boolean).join(" at ")), `: ${one.reason}`,
        one.nearest ? make("span", { class: "quiet" }, ` Nearest: ${one.nearest}.`) : null)));
    } else unmet.remove();
    const start = series || open || view.series.find((s) => s.points.length);
    if (start) visits.addEventListener("click", () => visit(view, start));
    else visits.remove();
    visits.setAttribute("aria-label", `See the frontier of ${titled(view)}`);
    return made;
  }

  /** Of a configuration's answers at a speedup, the one with the least loss, what is clear first. */
  function answerAt(view, target) {
    const found = rows.filter((row) => row.origin === "target" && row.status === "met" && row.required === target &&
      slug(row) === view.slug && wanted(row.accelerators));
    return found.sort((a, b) => (a.clear === false) - (b.clear === false) || a.loss - b.loss)[0];
  }

  const entry = (list, name, value) => list.append(make("dt", {}, name), make("dd", {}, value));

  // ---- the frontier ----------------------------------------------------------------------------
  let chart = null; // Vega's view
  let at = { view: null, series: null, place: 0, prompt: 0 };

  const TOP = data.ceiling; // the loss, in limits, up to which the axis is to scale
  const locate = (id) => id.split("/").map(Number);

  async function drawChart() {
    if (!at.view) return;
    const tooltip = (handler, event, item, id) => tip(event, id);
    const spec = read("spec");
    const first = chartData(at.view);
    spec.data.forEach((each) => { if (first[each.name]) each.values = first[each.name]; });
    const made = await vegaEmbed($("chart"), spec, { mode: "vega", renderer: "svg", actions: false, tooltip });
    chart = made.view;
    chart.addEventListener("click", (event, item) => {
      if (!item || !item.datum || !item.datum.id) return;
      const [series, place] = locate(item.datum.id);
      select(at.view, at.view.series[series], place);
    });
  }

  /** What the pointer is over, said beside it; the chosen point says the same in the viewer. */
  function tip(event, id) {
    const box = $("tip");
    box.hidden = !id;
    if (!id) return;
    const [number, place] = locate(id);
    const series = at.view.series[number];
    box.replaceChildren(...describe(series, series.points[place]));
    const { width, height } = box.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - width - 8);
    const below = event.clientY + 14;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${below + height > innerHeight ? event.clientY - height - 14 : below}px`;
  }

  const speed = (point) => times(point.speedup) +
    (point.timed ? (missing(point.error) ? "" : ` ${plusMinus(point.error)}`) : " (predicted)");

  function describe(series, point) {
    const metrics = Object.entries(point.means).filter(([name]) => name !== "clip_score")
      .map(([name, value]) => `${name.toUpperCase()} ${value.toPrecision(3)}${name === "psnr" ? " dB" : ""}`);
    return [
      make("strong", {}, sign(series.name), ` ${series.name}: ${speed(point)}`),
      make("span", {}, `loss ${percent(point.loss)} (${range(point)}), ${point.prompts} prompts`),
      make("span", {}, [`${seconds(point.seconds)} an image`, gib(point.memory), ...metrics].filter(Boolean).join(", ")),
      point.eyes ? make("span", {}, `by eye: ${point.eyes}`) : null,
      make("code", {}, point.parameters),
      point.marks.length ? make("span", {}, `chosen for ${point.marks.join(", ")}`) : null,
      ...point.warnings.map((warning) => make("span", { class: "warn" }, warning)),
    ].filter(Boolean);
  }

  /** Where to begin: what to use, else the fastest within the limit. */
  const placeOf = (series) => series.sure ?? series.bound ?? 0;

  /** From elsewhere in the page to a point of a frontier. */
  function visit(view, series, place = placeOf(series)) {
    select(view, series, place);
    $("frontier").scrollIntoView();
    $("place").focus({ preventScroll: true });
  }

  function select(view, series, place, prompt = at.prompt) {
    const moved = at.view !== view;
    at = { view, series, place: Math.min(place, series.points.length - 1), prompt };
    if (moved) { $("configuration").value = view.slug; showChart(); }
    showPoint();
  }

  const rowOf = ({ view, series, place }) => {
    const id = `${view.series.indexOf(series)}/${place}`;
    return view.chart.points.find((row) => row.id === id);
  };

  function chartData(view) {
    const names = new Set(view.series.filter(visible).map((series) => series.name));
    const points = view.chart.points.filter((row) => names.has(row.series));
    return { ...view.chart, points, selected: [rowOf(at)].filter(Boolean) };
  }

  function showChart() {
    const view = at.view;
    if (chart) {
      Object.entries(chartData(view)).forEach(([name, values]) => chart.data(name, values));
      chart.signal("top", TOP * view.limit);
      chart.run();
      $("chart").setAttribute("aria-label", `Speedup against loss of ${titled(view)}`);
    }
    const series = view.series.filter(visible);
    $("legend").replaceChildren(...series.map((each) => button(
      [sign(each.name), ` ${each.name}${each.points.length ? "" : " (none)"}`],
      () => select(view, each, placeOf(each)),
      {
        "aria-pressed": "false", "data-series": each.name, disabled: !each.points.length,
        title: each.reason || `${each.evaluated} candidates evaluated, ${each.timed} timed`,
      },
    )));
    $("points").replaceChildren(
      headings("Accelerators", "Speedup", "Loss", "95% interval", "Parameters", ""),
      make("tbody", {}, ...series.flatMap((each) => each.points.map((point, place) => make("tr", {},
        make("th", { scope: "row" }, each.name),
        make("td", {}, speed(point)),
        make("td", {}, percent(point.loss)),
        make("td", {}, range(point)),
        make("td", {}, make("code", {}, point.parameters)),
        make("td", {}, button("Images", () => select(view, each, place))),
      )))),
    );
  }

  function showPoint() {
    const { view, series, place } = at;
    const point = series.points[place];
    const row = rowOf(at);
    if (chart) chart.data("selected", row ? [row] : []).run();
    document.querySelectorAll("#legend button").forEach((each) =>
      each.setAttribute("aria-pressed", String(each.dataset.series === series.name)));
    $("viewer-title").textContent = `Along the frontier of ${series.name}`;
    const slider = $("place");
    slider.max = series.points.length - 1;
    slider.value = place;
    slider.disabled = series.points.length < 2;
    slider.setAttribute("aria-valuetext", `${place + 1} of ${series.points.length}: ${row ? row.words : ""}`);
    const side = point.within ? "within" : "beyond";
    showHistory(series);
    $("point").replaceChildren(...describe(series, point), make("span", { class: side }, `${side} the limit`));
    showImages(point);
  }

  /** What was tried when, and what it gained; and which parameters mattered. */
  function showHistory(series) {
    $("history-help").textContent = `${series.name}: ${series.evaluated} candidates were evaluated, ${series.timed} timed. ` +
      (series.gains.length ? "Each row is an evaluation that found a faster candidate within the limit."
        : "None of them is both faster and within the limit.");
    $("history").replaceChildren(...(series.gains.length ? [
      headings("Evaluation", "After", "Speedup", "Loss", "Parameters"),
      make("tbody", {}, ...series.gains.map((gain) => make("tr", {},
        make("td", {}, `${gain.number} of ${series.evaluated}`),
        make("td", {}, gain.seconds < 90 ? `${gain.seconds.toFixed(0)} s` : `${(gain.seconds / 60).toFixed(1)} min`),
        make("td", {}, times(gain.speedup)),
        make("td", {}, percent(gain.loss)),
        make("td", {}, make("code", {}, gain.parameters)),
      )))] : []));
    $("influences").replaceChildren(...(series.influences.length ? [
      headings("Parameter", "Values tried", "Correlation with the speedup", "Correlation with the loss"),
      make("tbody", {}, ...series.influences.map((one) => make("tr", {},
        make("td", {}, make("code", {}, one.parameter)),
        make("td", {}, String(one.values)),
        make("td", {}, signed(one.speedup)),
        make("td", {}, signed(one.loss)),
      ))),
      make("caption", {}, "Rank correlation (Spearman) over all evaluations: 1 or −1 is as strong as can be, 0 is none."),
    ] : []));
  }

  function showImages(point) {
    const { view } = at;
    const able = view.baseline.map((number, n) => n).filter((n) => data.pictures[view.baseline[n]]);
    if (!able.includes(at.prompt)) at.prompt = able[0] || 0;
    const baseline = picture(view, view.baseline[at.prompt], "baseline pipeline");
    const fast = picture(view, point.images[at.prompt], `with ${at.series.name}, ${times(point.speedup)}`);
    const pane = (caption, ...children) => make("figure", {}, ...children, make("figcaption", {}, caption));
    const panes = [];
    if (baseline) panes.push(pane("Baseline", baseline));
    if (fast) panes.push(pane(`${times(point.speedup)}`, fast));
    if (baseline && fast) {
      const above = fast.cloneNode();
      above.alt = "";
      const label = "difference between the two images; black where they are the same";
      const both = make("div", { class: "difference", role: "img", "aria-label": label }, baseline.cloneNode(), above);
      panes.push(pane("Difference, amplified 4 times", both));
    } else {
      panes.push(make("p", { class: "help" }, "No images of this candidate were kept."));
    }
    $("trio").replaceChildren(...panes);
    $("prompt").textContent = baseline ? `“${view.prompts[at.prompt]}”` : "";
    $("thumbs").replaceChildren(...(able.length > 1 ? able : []).map((n) => button(
      make("img", { src: data.pictures[view.baseline[n]], alt: `prompt ${n}: ${view.prompts[n]}` }),
      () => {
        at.prompt = n;
        showImages(point);
        $("thumbs").querySelector('[aria-pressed="true"]').focus();
      },
      { "aria-pressed": String(n === at.prompt), title: view.prompts[n] },
    )));
  }

  // ---- worst images ----------------------------------------------------------------------------
  /** The answers of a configuration whose images are in the page, or that people compared. */
  const answered = (view) => view.series.filter(visible).flatMap((series) => series.points
    .filter((point) => point.eyes || point.worst.some((one) => one.pairs.some((pair) => data.worst[pair.own])))
    .map((point) => ({ series, point })));
  const UNITS = { psnr: " dB" };
  const NAMES = { psnr: "PSNR", ssim: "SSIM", ms_ssim: "MS-SSIM", lpips: "LPIPS", dists: "DISTS", clip_score: "CLIP score" };
  const metric = (name) => NAMES[name] || name;
  const valued = (name, value) => `${value.toPrecision(3).replace("-", "−")}${UNITS[name] || ""}`;

  function worst(views) {
    const able = views.filter((view) => answered(view).length);
    $("worst").hidden = !able.length;
    const before = $("worst-of").value;
    $("worst-of").replaceChildren(...able.map((view) => make("option", { value: view.slug }, titled(view))));
    if (able.some((view) => view.slug === before)) $("worst-of").value = before;
    showWorst();
  }

  function showWorst() {
    const view = data.configurations.find((each) => each.slug === $("worst-of").value);
    if (!view) return;
    const answers = answered(view);
    const names = [...new Set(answers.flatMap(({ point }) => point.worst.map((one) => one.metric)))];
    const before = $("worst-by").value;
    $("worst-by").replaceChildren(...names.map((name) => make("option", { value: name }, metric(name))));
    if (names.includes(before)) $("worst-by").value = before;
    $("worst-answers").replaceChildren(...answers.map((each) => worstOf(view, each, $("worst-by").value)));
  }

  /** An answer with its worst images by a metric, each beside the baseline's. */
  function worstOf(view, { series, point }, name) {
    const found = point.worst.find((one) => one.metric === name);
    const pairs = found ? found.pairs.filter((pair) => data.worst[pair.own] && data.worst[pair.baseline]) : [];
    const notes = [];
    if (found && found.among) notes.push(`The worst of the ${found.among} images that are kept; ${point.prompts} were evaluated.`);
    if (found && pairs.length < found.pairs.length) notes.push("Others are left out, to keep this page small.");
    const mean = missing(point.means[name]) ? "" : `, mean ${metric(name)} ${valued(name, point.means[name])}`;
    return make("article", { class: "answer" },
      make("h3", {}, sign(series.name), ` ${series.name} ${times(point.speedup)} `,
        make("span", { class: "quiet" }, `loss ${percent(point.loss)} (${range(point)})${mean}`,
          point.marks.length ? `; chosen for ${point.marks.join(", ")}` : null)),
      make("p", {}, make("code", {}, point.parameters)),
      make("p", { class: "quiet" }, point.eyes ? `By eye: ${point.eyes}.` : "Not compared by eye yet."),
      notes.length ? make("p", { class: "help" }, notes.join(" ")) : null,
      make("ol", { class: "worst" }, ...pairs.map((pair) => worstPair(view, series, name, pair))));
  }

  function worstPair(view, series, name, pair) {
    const text = view.texts[pair.prompt];
    const change = missing(pair.reference) ? "" : `, baseline ${valued(name, pair.reference)}`;
    return make("li", {}, make("figure", { class: "pair" },
      make("div", {}, picture(view, pair.baseline, `baseline pipeline: ${text}`, data.worst),
        picture(view, pair.own, `with ${series.name}: ${text}`, data.worst)),
      make("figcaption", {}, make("strong", {}, `${metric(name)} ${valued(name, pair.value)}${change}`), ` “${text}”`)));
  }

  // ---- step counts -----------------------------------------------------------------------------
  let stepsChart = null;

  function shownSteps() {
    return data.steps.filter((each) => (!chosen.model || each.model === chosen.model) &&
      (!chosen.scheduler || each.scheduler === chosen.scheduler));
  }

  function steps() {
    const found = shownSteps();
    $("steps").hidden = !found.length;
    if (!found.length) return;
    const select = $("steps-of");
    const before = select.value;
    const names = found.map((each) => `${each.model}, ${each.scheduler}`);
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.value = names.includes(before) ? before : names[0];
    showSteps();
  }

  function showSteps() {
    const each = shownSteps().find((one) => `${one.model}, ${one.scheduler}` === $("steps-of").value);
    $("steps-help").textContent = "All step counts, by seconds an image and by loss relative to the baseline pipeline " +
      `with ${each.reference} steps. The numbers are the steps of the baseline pipeline. ` +
      "Further left is faster; further down loses less.";
    const points = each.points.filter((row) => !styles.has(row.series) || wanted(row.series) ||
      fewerSteps.some((series) => series.name === row.series));
    if (stepsChart) stepsChart.data("steps", points).run();
  }

  async function drawSteps() {
    if (!shownSteps().length) return;
    const options = { mode: "vega", renderer: "svg", actions: false };
    const spec = read("steps-spec");
    spec.data.forEach((each) => { if (each.name === "steps") each.values = shownSteps()[0].points; });
    stepsChart = (await vegaEmbed($("steps-chart"), spec, options)).view;
    steps();
  }

  // ---- fastest within the limit ----------------------------------------------------------------
  function matrix(views) {
    const names = [...styles.keys()].filter((name) =>
      views.some((view) => view.series.some((series) => series.name === name && visible(series))));
    const speeds = views.flatMap((view) => view.series).map((series) => (best(series) || { speedup: 0 }).speedup);
    const most = Math.max(1.01, ...speeds);
    const body = views.map((view) => make("tr", {}, make("th", { scope: "row" }, titled(view)),
      ...names.map((name) => bound(view, view.series.find((series) => series.name === name), most))));
    $("matrix").replaceChildren(
      headings("Model, scheduler, steps", ...names.map((name) => [sign(name), ` ${name}`])),
      make("tbody", {}, ...body),
    );
  }

  function bound(view, series, most) {
    const point = series && best(series);
    if (!point) {
      const reason = series ? series.reason : "was not searched";
      return make("td", { class: "none", title: reason }, make("span", { "aria-label": `none: ${reason}` }, "none"));
    }
    const share = Math.max(0, (point.speedup - 1) / (most - 1));
    // The middle of the scale, on which neither dark nor light text can be read, is left out.
    const strength = share < 0.5 ? 80 * share : 70 + 60 * (share - 0.5);
    // What is not clear has no colour: it may be above the limit.
    const kind = !series.clear ? "unsure" : share >= 0.5 ? "strong" : point.speedup < 1 ? "slow" : "";
    return make("td", { style: `--share:${strength.toFixed(0)}%`, class: kind }, button(
      [times(point.speedup) + (series.clear ? "" : "?"), note(percent(point.loss))],
      () => visit(view, series, series.bound),
      { title: `${titled(view)}, ${series.name}${series.clear ? "" : ": too few prompts to tell whether the loss is below the limit"}` },
    ));
  }

  // ---- all tasks -------------------------------------------------------------------------------
  // Files in the folder of this page.
  const slug = (row) => (row.model ? `${row.model}_${row.scheduler}_${row.steps}` : "misunderstood");
  const script = (row) => `code/${row.id}.py`;
  const record = (row) => `search/${slug(row)}.json`;
  const href = (path) => path.split("/").map(encodeURIComponent).join("/");
  const link = (text, path, does) => make("a", { href: href(path), on: { click: (event) => opened(event, does) } }, text);

  const wish = (row) => {
    if (!missing(row.max_seconds_per_image)) return `${row.max_seconds_per_image} s an image`;
    return missing(row.required) ? "" : `${row.required}x`;
  };

  const COLUMNS = [
    ["Model", (row) => row.model], ["Scheduler", (row) => row.scheduler], ["Steps", (row) => row.steps],
    ["Accelerators", (row) => row.accelerators || row.sentence,
      (row) => row.accelerators || make("span", { class: "long" }, row.sentence)],
    ["Asked for", (row) => row.required, (row) => (row.same || [row])
      .map(wish).filter(Boolean).join(", ")],
    ["Status", (row) => row.status, (row) => [make("span", { class: row.status }, row.status), note(row.reason && row.reason.split("\n")[0], { class: "long" })]],
    ["Speedup", (row) => row.speedup, (row) => [times(row.speedup), note(plusMinus(row.speedup_error))]],
    ["Loss", (row) => row.loss, (row) => (missing(row.loss) ? "" : [
      percent(row.loss) + (row.clear === false ? "?" : ""),
      note(range({ low: row.loss_low, high: row.loss_high }))])],
    [`${FEWER} lose`, (row) => row.fewer_steps_loss, (row) => [percent(row.fewer_steps_loss), note(row.beaten && "less")]],
    ["Verified", (row) => row.verified_speedup, (row) => (missing(row.verified) ? "" : [
      `${row.verified}, ${times(row.verified_speedup)}`, note(row.verification, { class: "long" })])],
    ["Held out", (row) => row.heldout_loss, (row) => [
      percent(row.heldout_loss), note(row.heldout === false && "above the limit")]],
    ["Files", null, (row) => [
      data.scripts[row.id] ? link("script", script(row), () => showScript(row)) : null,
      link("JSON", record(row), () => showJson(row))]],
  ];
  let order = { column: null, down: false };
  let whole = false;

  /** What tasks have the same answer: one row, that of the first of them. */
  function folded(found) {
    const groups = new Map();
    for (const row of found) {
      const key = row.status === "met" ? JSON.stringify([slug(row), row.accelerators, row.parameters]) : row.id;
      if (!groups.has(key)) groups.set(key, { ...row, same: [] });
      groups.get(key).same.push(row);
    }
    return [...groups.values()];
  }

  const takes = (row) => (row.model
    ? passes(row.model, row.scheduler, row.steps) && wanted(row.accelerators)
    : AXES.every((axis) => !chosen[axis]));
  function sorted() {
    const found = rows.filter(takes);
    if (order.column === null) return found;
    const key = COLUMNS[order.column][1];
    const compare = (a, b) =>
      (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en"));
    return found.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y); // what is missing comes last
      return order.down ? compare(y, x) : compare(x, y);
    });
  }

  function head() {
    const sort = (n) => {
      order = { column: n, down: order.column === n && !order.down };
      table();
    };
    const cells = COLUMNS.map(([name, key], n) => (key ? button(name, () => sort(n)) : name));
    $("table").replaceChildren(headings(...cells), make("tbody"));
  }

  function table() {
    const every = sorted();
    const met = $("unmet").checked ? every : every.filter((row) => row.status !== "infeasible");
    const found = $("fold").checked ? folded(met) : met;
    const part = whole ? found : found.slice(0, PAGE);
    [...$("table").tHead.rows[0].cells].forEach((th, n) => {
      const direction = order.down ? "descending" : "ascending";
      if (COLUMNS[n][1]) th.setAttribute("aria-sort", n === order.column ? direction : "none");
    });
    const body = $("table").tBodies[0];
    body.replaceChildren(...part.map((row) => make("tr", { "data-id": row.id }, ...COLUMNS.map(([, key, content], n) => {
      const inside = content ? content(row) : key(row);
      return make("td", { "data-label": COLUMNS[n][0] }, ...(Array.isArray(inside) ? inside : [inside]).filter((each) => !missing(each)));
    }))));
    const left = every.length - met.length;
    $("tasks-count").textContent = `${part.length} of ${found.length} rows shown, for ${met.length} tasks` +
      `${left ? `; ${left} other tasks cannot be met` : ""}.`;
    $("more").hidden = part.length === found.length;
    $("more").textContent = `Show all ${found.length}`;
  }

  // ---- serving ---------------------------------------------------------------------------------
  const served = rowsOf(data.serving);
  const SERVED = [
    ["Model", (row) => `${row.model}, ${row.scheduler}, ${row.steps} steps`],
    ["Images a call", (row) => row.batch_size],
    ["What", (row) => row.accelerators || "baseline pipeline", (row) => row.parameters],
    ["p50", (row) => seconds(row.latency_p50), (row) => (row.calls ? `${row.calls} calls` : row.problem)],
    ["p99", (row) => seconds(row.latency_p99), (row) => (row.calls && row.calls < 100 ? "slowest" : "")],
    ["Images a second", (row) => (missing(row.images_per_second) ? "" : row.images_per_second.toPrecision(3))],
    ["Speedup", (row) => times(row.speedup), (row) => plusMinus(row.speedup_error)],
    ["Memory", (row) => (missing(row.device_gib ?? row.host_gib) ? "" : `${(row.device_gib ?? row.host_gib).toPrecision(3)} GiB`)],
    ["Joules an image", (row) => (missing(row.joules_per_image) ? "" : row.joules_per_image.toPrecision(3))],
  ];
  function serving() {
    const found = served.filter((row) => passes(row.model, row.scheduler, row.steps) &&
      (!row.accelerators || wanted(row.accelerators)));
    // What is not known of any row has no column.
    const columns = SERVED.filter(([, of]) => found.some((row) => of(row) !== ""));
    $("serving").hidden = !found.length;
    $("served").replaceChildren(headings(...columns.map(([name]) => name)), make("tbody", {}, ...found.map((row) =>
      make("tr", {}, ...columns.map(([name, of, more]) => make("td", { "data-label": name }, String(of(row)),
        more ? note(more(row), { class: "long" }) : null))))));
  }

  function csv() {
    const quoted = (value) => {
      const text = missing(value) ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [data.table.columns, ...sorted().map((row) => data.table.columns.map((name) => row[name]))];
    return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  }

  function download() {
    const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    make("a", { href: url, download: "tasks.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  // ---- scripts and JSON ------------------------------------------------------------------------
  /** Opens inside the page; with a modifier key as a file of its own, as links do. */
  function opened(event, does) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    does();
  }

  function dialog(title, help, fill) {
    $("dialog-title").textContent = title;
    $("dialog-help").replaceChildren(...help);
    $("copy").textContent = "Copy";
    fill($("dialog-code"));
    $("dialog").showModal();
  }

  const file = (path) => make("a", { href: href(path) }, path);
  const showScript = (row) => dialog(row.id, ["The same as a file: ", file(script(row))], (code) => {
    // Made by Pygments, which escapes what it is given.
    code.innerHTML = data.scripts[row.id].map((line) => data.lines[line]).join("\n") + "\n";
  });
  const showJson = (row) => {
    const verified = missing(row.verified) ? [] : [" and ", file(`verify/${slug(row)}.json`)];
    const help = ["All of it, with every score, as a file: ", file(record(row)), ...verified];
    dialog(row.id, help, (code) => { code.textContent = JSON.stringify(row, null, 1); });
  };

  const showRecipe = (view, series) => {
    const command = `diffaccel recommend --model ${view.configuration.model} --scheduler ${view.configuration.scheduler} --steps ` +
      `${view.configuration.steps} --accelerators "${series.name}" --out recipe.json`;
    const help = ["Save it as recipe.json, then put it on a pipeline: ", make("code", {}, "diffaccel.apply(pipe, \"recipe.json\")"),
      ". This command writes it, too: ", make("code", {}, command)];
    dialog(`${titled(view)}: ${series.name}`, help, (code) => { code.textContent = series.recipe; });
  };

  async function copy() {
    const code = $("dialog-code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    $("copy").textContent = "Copied";
  }

  // ---- all of it -------------------------------------------------------------------------------
  function show() {
    const views = data.configurations.filter(shown);
    const cells = views.flatMap((view) => view.series)
      .filter((each) => each.is_fewer_steps === isFewerSteps() && wanted(each.name));
    $("filter-count").textContent = `${views.length} of ${data.configurations.length} configurations, ${cells.length} cells`;
    headline(views);
    $("cards").replaceChildren(...views.map(card));
    if (!views.length) $("cards").append(make("p", { class: "help" }, "No configuration passes the filters."));
    $("configuration").replaceChildren(...views.map((view) => make("option", { value: view.slug }, titled(view))));
    const view = views.includes(at.view) ? at.view : views[0];
    const able = view ? view.series.filter((series) => visible(series) && series.points.length) : [];
    const series = able.includes(at.series) ? at.series : advised(view || { series: [] }) || able[0];
    $("frontier").querySelector(".split").hidden = !series;
    if (series) {
      const place = series === at.series ? at.place : placeOf(series);
      at = { ...at, view: null };
      select(view, series, place);
    }
    worst(views);
    steps();
    matrix(views);
    whole = false;
    table();
    serving();
  }

  fillFilters();
  head();
  show();
  $("configuration").addEventListener("change", () => {
    const view = data.configurations.find((each) => each.slug === $("configuration").value);
    const series = advised(view) || view.series.find((each) => visible(each) && each.points.length);
    if (series) select(view, series, placeOf(series));
  });
  $("place").addEventListener("input", () => select(at.view, at.series, Number($("place").value)));
  $("more").addEventListener("click", () => { whole = true; table(); });
  $("steps-of").addEventListener("change", showSteps);
  for (const name of ["worst-of", "worst-by"]) $(name).addEventListener("change", showWorst);
  for (const name of ["fold", "unmet"]) $(name).addEventListener("change", () => { whole = false; table(); });
  $("download").addEventListener("click", download);
  $("copy").addEventListener("click", copy);
  $("close").addEventListener("click", () => $("dialog").close());
  drawChart().then(drawSteps).then(() => {
    if (at.view) { showChart(); showPoint(); } // what was filtered meanwhile
    document.documentElement.dataset.ready = "yes";
  });
})();
