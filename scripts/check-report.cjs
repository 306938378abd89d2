// The browser's side of scripts/check-report: it is given what to open, and ends with 1 if something is wrong.
"use strict";
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");
const axe = require("axe-core");

const task = JSON.parse(process.argv[2]);
const wrong = [];
const check = (holds, what) => { if (!holds) wrong.push(what); };

async function open(browser, name, options) {
  const page = await browser.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => wrong.push(`${name}: console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`${name}: ${error}`));
  page.on("dialog", (dialog) => { wrong.push(`${name}: dialog`); dialog.dismiss(); });
  await page.setViewport({ width: options.width || 1280, height: options.height || 900, deviceScaleFactor: options.scale || 1 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: options.scheme || "light" }]);
  if (options.script === false) await page.setJavaScriptEnabled(false);
  const url = "file://" + task.reports[name];
  await page.goto(url, { waitUntil: "load" });
  return { page, asked, url };
}

// The policy of a report lets nothing in, so what looks at it comes from outside of the page's rules.
const rules = { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] };
const serious = async (page) => {
  await page.evaluate(axe.source);
  const found = await page.evaluate((options) => globalThis.axe.run(document, options), rules);
  return found.violations.map((violation) => `${violation.impact} ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
};

async function look(browser, name) {
  for (const scheme of ["light", "dark"]) {
    const { page, asked, url } = await open(browser, name, { scheme });
    check(asked.length === 1 && asked[0] === url, `${name}: it asked for ${asked}`);
    for (const violation of await serious(page)) wrong.push(`${name}, ${scheme}: axe: ${violation}`);
    check(!(await page.title()).startsWith("evil"), `${name}: something ran`);
    const foreign = await page.evaluate(() => document.querySelectorAll("script, img, link, iframe, object, base, form, b, [onerror], [onload], [onfocus], [style]").length);
    check(foreign === 1, `${name}: ${foreign} elements that may not be there, where our script is one`);
    await page.screenshot({ path: path.join(task.pictures, `${name}-${scheme}.png`), fullPage: true });
    await page.close();
  }
}

async function use(browser, name) {
  const { page } = await open(browser, name, {});
  const told = await page.evaluate(() => {
    const wrong = [];
    let sorted = 0, filtered = 0;
    for (const table of document.querySelectorAll("table")) {
      const caption = table.caption.textContent;
      const rows = () => Array.from(table.tBodies[0].rows);
      Array.from(table.tHead.rows[0].cells).forEach((head, at) => {
        const button = head.querySelector("button");
        if (!button) return;
        const values = () => rows().map((row) => row.cells[at].dataset.v).filter((v) => v !== undefined).map(Number);
        const before = rows().length;
        button.click();
        const first = head.getAttribute("aria-sort");
        const down = values();
        button.click();
        const up = values();
        if (head.getAttribute("aria-sort") === first) wrong.push(`${caption}: aria-sort stays`);
        if (rows().length !== before) wrong.push(`${caption}: rows are lost`);
        if (head.classList.contains("n")) {
          if (down.some((v, at) => at > 0 && down[at - 1] < v)) wrong.push(`${caption}: not sorted down`);
          if (up.some((v, at) => at > 0 && up[at - 1] > v)) wrong.push(`${caption}: not sorted up`);
          sorted += 1;
        }
      });
      const input = table.closest(".scroll").previousElementSibling?.querySelector("input");
      if (input) {
        const all = rows().length;
        const type = (text) => { input.value = text; input.dispatchEvent(new Event("input")); };
        const word = rows()[0].cells[0].textContent.slice(0, 12);
        type(word);
        const shown = rows().filter((row) => !row.hidden);
        if (shown.length === 0 || !shown.every((row) => row.textContent.toLowerCase().includes(word.toLowerCase()))) wrong.push(`${caption}: filter`);
        type("no such thing as this");
        if (rows().some((row) => !row.hidden)) wrong.push(`${caption}: a filter that hides nothing`);
        type("");
        if (rows().filter((row) => !row.hidden).length !== all) wrong.push(`${caption}: rows stay hidden`);
        filtered += 1;
      }
    }
    const tree = document.querySelector(".tree");
    if (tree) {
      const box = tree.previousElementSibling;
      const [openAll, closeAll] = box.querySelectorAll("button");
      const folds = () => Array.from(tree.querySelectorAll("details"));
      openAll.click();
      if (folds().some((fold) => !fold.open)) wrong.push("tree: open all");
      closeAll.click();
      if (folds().some((fold) => fold.open)) wrong.push("tree: close all");
      const input = box.querySelector("input");
      input.value = "settings.py";
      input.dispatchEvent(new Event("input"));
      const shown = Array.from(tree.querySelectorAll("li")).filter((item) => !item.hidden);
      const all = Array.from(tree.querySelectorAll("li[data-path]"));
      const wanted = all.filter((item) => item.dataset.path.includes("settings.py"));
      if (wanted.some((item) => item.hidden || !item.checkVisibility())) wrong.push("tree: filter");
      if (wanted.length > 0 && shown.length === all.length) wrong.push("tree: a filter that hides nothing");
      filtered += 1;
    }
    return { wrong, sorted, filtered };
  });
  for (const what of told.wrong) wrong.push(`${name}: ${what}`);
  check(told.sorted > 0, `${name}: no column was sorted`);
  // The keyboard comes first to the link that skips to the report.
  const { page: keys } = await open(browser, name, {});
  await keys.keyboard.press("Tab");
  check(await keys.evaluate(() => document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().left >= 0), `${name}: the first Tab leads to no visible skip link`);
  await keys.keyboard.press("Enter");
  check(await keys.evaluate(() => document.activeElement.id === "main"), `${name}: the skip link does not lead to the report`);
  await keys.close();
  const pdf = await page.pdf({ path: path.join(task.pictures, `${name}.pdf`), format: "A4" });
  check(pdf.length > 5000, `${name}: it does not print`);
  await page.close();
  return told;
}

async function withoutScript(browser, name) {
  const { page } = await open(browser, name, { script: false });
  // What the document says is there; only what the script adds is not.
  const text = fs.readFileSync(task.reports[name], "utf8");
  check(text.includes("<table>") && !text.includes("<button"), `${name}: buttons that do nothing without script`);
  await page.close();
}

async function narrow(browser, name) {
  const { page } = await open(browser, name, { width: 390, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  check(wide <= 390, `${name}: ${wide} pixels wide on a telephone`);
  await page.screenshot({ path: path.join(task.pictures, `${name}-narrow.png`) });
  await page.close();
}

async function main() {
  const browser = await puppeteer.launch({ executablePath: task.browser, args: ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"] });
  try {
    if (task.picture) {
      const { page } = await open(browser, "du", { width: 1100, height: 1040, scale: 1 });
      await page.screenshot({ path: task.picture });
      return;
    }
    for (const name of Object.keys(task.reports)) {
      await look(browser, name);
      const told = await use(browser, name);
      await withoutScript(browser, name);
      await narrow(browser, name);
      const size = fs.statSync(task.reports[name]).size;
      check(size < 2 << 20, `${name}: ${size} bytes`);
      console.log(`${name}: ${size} bytes, ${told.sorted} columns sorted, ${told.filtered} filters`);
    }
  } finally {
    await browser.close();
  }
  for (const what of wrong) console.error(what);
  if (wrong.length > 0) process.exitCode = 1;
}

main().catch((error) => { console.error(error); process.exitCode = 1; });
