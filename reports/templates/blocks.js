// Blocks that reports are made of: text, facts, tables and figures, each drawn from plain data.

const BLOCKS = {
  paragraph: (block) => el("p", { class: block.style === "plain" ? null : `note ${block.style}`, text: block.text }),
  facts: (block) => facts(block.rows),
  table: (block) =>
    captioned(
      block,
      simpleTable(
        block.caption,
        block.heads,
        block.rows.map((row) => [...row]),
      ),
    ),
  bars: barsFigure,
  lines: linesFigure,
  heatmap: heatmapTable,
};

/** A visible caption over something that carries the same text for screen readers. */
function captioned(block, content) {
  return el("div", { class: "captioned" }, el("p", { class: "caption", "aria-hidden": "true", text: block.caption }), content);
}

/** Nodes of a list of blocks. */
function drawBlocks(blocks) {
  return blocks.map((block) => BLOCKS[block.type](block));
}
