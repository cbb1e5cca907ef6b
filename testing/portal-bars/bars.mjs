// The portal's bars, measured in Chromium: axe on every page, theme and width; weight and outside
// requests; Lighthouse at a desk and on a phone. `cargo xtask portal-bars` starts it beside a cloud.
//
// node bars.mjs PORTAL IMAGE RUNRIG [lighthouse]: the portal's URL, an OCI layout to run, the
// program. It signs up, deploys, looks, prints a table. Exit code 1: a bar is not met. What npm
// installed and what it writes is in the working folder.

import { createRequire } from 'node:module';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [portal, image, runrig, wanted] = process.argv.slice(2);
const installed = createRequire(pathToFileURL(join(process.cwd(), 'x.js')));
const puppeteer = installed('puppeteer-core');
const axe = readFileSync(installed.resolve('axe-core/axe.min.js'), 'utf8');

const password = 'four plain words here';
const job = 'journey';
const strangers = ['/', '/signup', '/login', '/explorer', '/explorer/blocks', '/explorer/blocks/2',
  '/explorer/transactions', '/explorer/hosts', '/explorer/network', '/explorer/receipts/r-1', '/explorer?q=nothing'];
const members = ['/', '/jobs', '/jobs?q=nothing', '/jobs/new', '/jobs/new?from=image', `/jobs/${job}`,
  `/jobs/${job}/logs`, `/jobs/${job}/releases`, `/jobs/${job}/events`, `/jobs/${job}/receipts`,
  '/jobs/nothing', '/analytics', '/analytics/requests', '/analytics/use?range=7d', '/hosts', '/hosts/new',
  '/earnings', '/wallet', '/bills', '/settings', '/members', '/settings/keys', '/device', '/nowhere'];
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
// KiB of a first and of a later visit; points of Lighthouse.
const bars = { first: 150, later: 25, desktop: 95, phone: 90 };

const browser = await puppeteer.launch({
  executablePath: process.env.CHROME_PATH || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const rows = [];
const faults = [];

const open = async () => (await browser.createBrowserContext()).newPage();
const stranger = await open();
const member = await open();
await signUp();
deploy();

for (const [who, page, paths] of [['stranger', stranger, strangers], ['member', member, members]]) {
  for (const path of paths) {
    const found = new Map();
    for (const theme of ['light', 'dark']) {
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: theme }]);
      for (const width of [1440, 390]) {
        await page.setViewport({ width, height: 900 });
        await page.goto(portal + path, { waitUntil: 'domcontentloaded' });
        await page.evaluate(() => document.fonts.ready.then(() => true));
        // By the debugger: the pages' policy forbids scripts of others.
        await page.evaluate(axe);
        const seen = await page.evaluate(async tags =>
          (await axe.run(document, { runOnly: tags })).violations.map(v =>
            [v.id, v.help, v.nodes.map(n => `${n.target} ${n.any[0]?.message ?? ''}`).slice(0, 3)]), tags);
        for (const [id, help, nodes] of seen) {
          found.set(`${id} ${nodes[0]}`, `${path} ${who} ${theme} ${width}: ${id}: ${help}: ${nodes.join(' | ')}`);
        }
      }
    }
    faults.push(...found.values());
    rows.push({ who, path, axe: found.size, ...(await weight(page, path)) });
    console.error(`${who} ${path}: axe ${found.size}, ${rows.at(-1).first} and ${rows.at(-1).later} KiB`);
  }
}
if (wanted === 'lighthouse') {
  for (const row of rows) await lighthouse(row);
}
await browser.close();

// A new account, and its key in a file.
async function signUp() {
  await member.goto(`${portal}/signup`);
  await member.type('#handle', `bars-${Date.now()}`);
  await member.type('#email', 'bars@example.org');
  await member.type('#password', password);
  await Promise.all([member.waitForNavigation(), member.click("form[action='/signup'] button.primary:not([type=button])")]);
  await member.goto(`${portal}/settings`);
  const key = await member.evaluate(async password => {
    const form = document.querySelector('form[action="/settings/recovery"]');
    form.querySelector('#password').value = password;
    return (await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)) })).text();
  }, password);
  writeFileSync('bars.key', key, { mode: 0o600 });
}

function deploy() {
  const run = (...words) => execFileSync(runrig, ['--key', 'bars.key', ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
  run('image', 'load', image);
  writeFileSync('compose.yaml', `name: ${job}
services:
  web:
    image: image:latest
    command: ["sh", "-c", "echo hello; exec sleep 100000"]
    deploy: { replicas: 2, resources: { limits: { cpus: "0.1", memory: 32m } } }
`);
  run('up', '-f', 'compose.yaml', '--yes', '--wait');
}

// KiB on the wire with an empty cache and with a filled one; requests to others.
async function weight(page, path) {
  const session = await page.createCDPSession();
  await session.send('Network.enable');
  let bytes = 0;
  const outside = new Set();
  session.on('Network.loadingFinished', e => { bytes += e.encodedDataLength; });
  session.on('Network.requestWillBeSent', e => {
    if (!e.request.url.startsWith(portal) && !e.request.url.startsWith('data:')) outside.add(e.request.url);
  });
  const visit = async () => {
    bytes = 0;
    await page.goto(portal + path, { waitUntil: 'load' });
    // Less than it takes a live page to ask for its stream.
    await new Promise(done => setTimeout(done, 800));
    return Math.ceil(bytes / 1024);
  };
  await page.setViewport({ width: 1440, height: 900 });
  await session.send('Network.clearBrowserCache');
  const first = await visit();
  const later = await visit();
  await session.detach();
  if (first > bars.first) faults.push(`${path}: ${first} KiB at first, more than ${bars.first}`);
  if (later > bars.later) faults.push(`${path}: ${later} KiB later, more than ${bars.later}`);
  for (const url of outside) faults.push(`${path}: asks ${url}`);
  return { first, later, outside: outside.size };
}

async function lighthouse(row) {
  const { default: run, desktopConfig } = await import(pathToFileURL(installed.resolve('lighthouse')));
  const page = row.who === 'member' ? member : stranger;
  for (const [form, config] of [['desktop', desktopConfig], ['phone', undefined]]) {
    const result = await run(portal + row.path,
      { output: 'json', logLevel: 'error', disableStorageReset: true, onlyCategories: ['performance', 'accessibility', 'best-practices', 'seo'] },
      config, page);
    const points = Object.values(result.lhr.categories).map(c => Math.round((c.score ?? 0) * 100));
    row[form] = points.join(' · ');
    const least = [bars[form], 100, 100, 100];
    if (points.some((p, at) => p < least[at])) {
      const lost = Object.values(result.lhr.audits).filter(a => a.score !== null && a.score < 0.9 && a.scoreDisplayMode !== 'informative').map(a => a.id);
      faults.push(`${row.path} ${form}: ${row[form]} (${lost.slice(0, 8).join(', ')})`);
    }
  }
  console.error(`${row.who} ${row.path}: ${row.desktop} at a desk, ${row.phone} on a phone`);
}

const table = ['| page | who | axe | KiB first / later | outside | Lighthouse desktop | phone |', '|---|---|---|---|---|---|---|',
  ...rows.map(r => `| \`${r.path}\` | ${r.who} | ${r.axe} | ${r.first} / ${r.later} | ${r.outside} | ${r.desktop ?? ''} | ${r.phone ?? ''} |`)];
console.log(table.join('\n'));
for (const fault of faults) console.log(`fault: ${fault}`);
process.exit(faults.length ? 1 : 0);
