// What is known about a group of kernels, beside its mark.

const tooltip = {
  show(node, group, others) {
    const box = byId("tooltip");
    box.replaceChildren(
      el("b", { text: shorten(opName(group.op), 60) }),
      el("span", { class: "bound-chip" }, el("span", { class: `swatch ${boundClass(group.bound)}` }), group.bound),
      facts(groupFacts(group)),
      ...alsoHere(others),
    );
    box.hidden = false;
    const at = node.getBoundingClientRect();
    const size = box.getBoundingClientRect();
    const right = at.right + 12 + size.width < document.documentElement.clientWidth;
    const left = right ? at.right + 12 : Math.max(8, at.left - size.width - 12);
    box.style.setProperty("left", `${left}px`);
    box.style.setProperty(
      "top",
      `${Math.min(Math.max(8, at.top - size.height / 2), window.innerHeight - size.height - 8)}px`,
    );
  },
  hide() {
    byId("tooltip").hidden = true;
  },
  text(group) {
    return `${opName(group.op)} in ${phaseName(group.phase)}, ${group.bound}, ${duration(group.time_us)}, ${percent(group.share)} of kernel time, ${percent(group.roof_fraction)} of its roof`;
  },
};

/** Groups whose marks lie under or over the one pointed at. */
function alsoHere(others) {
  if (!others.length) return [];
  const listed = others
    .slice(0, 4)
    .map((group) =>
      el(
        "li",
        {},
        el("span", { class: `swatch ${boundClass(group.bound)}` }),
        `${shorten(opName(group.op), 28)} in ${phaseName(group.phase)}, ${duration(group.time_us)}`,
      ),
    );
  if (others.length > 4) listed.push(el("li", { text: `and ${count(others.length - 4)} more` }));
  return [el("div", { class: "also" }, "Also here", el("ul", {}, listed))];
}

function groupFacts(group) {
  const over = known(group.roof_fraction) && group.roof_fraction > 1;
  return [
    ["phase", phaseName(group.phase)],
    ["shapes", shorten(group.shapes || "not known", 60)],
    ["arithmetic", group.unit === "none" ? "none" : `${group.dtype || UNKNOWN} ${group.unit}`],
    ["time", duration(group.time_us), `${percent(group.share)}, ${counted(group.kernels, "kernel")} a step`],
    [
      "roof",
      percent(group.roof_fraction),
      over ? "above the roof: cache reuse or a wrong count" : `${duration(group.headroom_us)} could be won`,
    ],
    ["intensity", `${number(group.intensity)} FLOP/byte`],
    [
      "speed",
      si(known(group.gflops) ? group.gflops * 1e9 : null, "FLOP/s"),
      si(known(group.bandwidth_gbs) ? group.bandwidth_gbs * 1e9 : null, "B/s"),
    ],
  ];
}
