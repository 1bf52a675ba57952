// Blocks that reports are made of: text, facts, tables and figures, each drawn from plain data.

const BLOCKS = {
  paragraph: (block) => el("p", { class: block.style === "plain" ? null : `note ${block.style}`, text: block.text }),
  facts: (block) => facts(block.rows),
  table: (block) => (block.choice ? choiceTable(block) : plainTable(block)),
  bars: barsFigure,
  lines: linesFigure,
  heatmap: heatmapTable,
};

/** A table as it is; the first cell of a row may be a link. */
function plainTable(block) {
  const rows = block.rows.map(([first, ...others], index) => [
    block.links[index] ? el("a", { href: block.links[index], text: first }) : first,
    ...others,
  ]);
  return captioned(block, simpleTable(block.caption, block.heads, rows, block.anchors));
}

/** A visible caption over something that carries the same text for screen readers. */
function captioned(block, content) {
  return el("div", { class: "captioned", id: block.name || null }, el("p", { class: "caption", "aria-hidden": "true", text: block.caption }), content);
}

/** Nodes of a list of blocks. */
function drawBlocks(blocks) {
  return blocks.map((block) => BLOCKS[block.type](block));
}
