// The portal's bars, measured in Chromium: axe on every page, theme and width; weight and outside
// requests; Lighthouse at a desk and on a phone, the median of three; what a live tab costs, how soon
// a log is there and a newcomer's job answers. `cargo xtask portal-bars` starts it beside a cloud.
//
// node bars.mjs PORTAL IMAGE RUNRIG [lighthouse | live]: the portal's URL, an OCI layout to run, the
// program. Without a word it measures axe, weight and requests. It signs up, deploys, looks, prints.
// BARS_PAGES=/a,/b: only these pages.
// Exit code 1: a bar is not met. What npm installed and what it writes is in the working folder.

import { createRequire } from 'node:module';
import { execFileSync } from 'node:child_process';
import { get } from 'node:http';
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const [portal, image, runrig, wanted] = process.argv.slice(2);
const installed = createRequire(pathToFileURL(join(process.cwd(), 'x.js')));
const puppeteer = installed('puppeteer-core');
const axe = readFileSync(installed.resolve('axe-core/axe.min.js'), 'utf8');

const password = 'four plain words here';
const signUpButton = "form[action='/signup'] button.primary:not([type=button])";
const job = 'journey';
const handle = `bars-${Date.now()}`;
const strangers = ['/', '/signup', '/login', '/explorer', '/explorer/blocks', '/explorer/blocks/2',
  '/explorer/transactions', '/explorer/hosts', '/explorer/network', '/explorer/receipts/r-1',
  '/explorer/search?q=nothing', '/explorer/search?q=d-1', '/docs', '/docs/deploy', '/explorer/lots', '/explorer/lots/1', '/explorer/votes', '/explorer/lotteries', '/operate', '/operate/queue', '/operate/placements', '/operate/incidents',
  '/operate/audit', '/operate/audit?kind=rollback&result=refused'];
const members = ['/', '/jobs', '/jobs?q=nothing', '/jobs/overview', '/jobs/new', '/jobs/new?from=image', `/jobs/${job}`,
  `/jobs/${job}/logs`, `/jobs/${job}/shell`, `/jobs/${job}/releases`, `/jobs/${job}/events`, `/jobs/${job}/receipts`,
  `/jobs/${job}/metrics`, `/jobs/${job}/variables`, `/jobs/${job}/network`, `/jobs/${job}/scale`,
  '/jobs/nothing', '/analytics', '/analytics/requests', '/analytics/requests?range=24h',
  '/analytics/requests?range=12m', '/analytics/use?range=7d', '/hosts', '/hosts/new', '/earnings/payouts',
  '/earnings', '/wallet', '/bills', '/bills/limits', '/settings', '/settings/passkeys', '/settings/space', '/members',
  '/settings/keys', '/device', '/nowhere'];
// One page of each kind, of those that are there.
const kinds = ['/signup', '/explorer', '/explorer/blocks/2', '/explorer/network', '/explorer/receipts/r-1',
  '/operate', '/operate/audit', '/jobs', '/jobs/new', `/jobs/${job}`, `/jobs/${job}/logs`, '/analytics',
  '/hosts/new', '/wallet', '/settings'];
const only = process.env.BARS_PAGES?.split(',');
const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
// KiB of a first and of a later visit; points of Lighthouse.
const bars = { first: 150, later: 25, desktop: 95, phone: 90 };
// Percent of a core; ms to a log's first line; s to an answer; tabs, and s until each is there.
const alive = { core: 3, line: 500, answer: 60, tabs: 12, tab: 5 };
const RUNS = 3;

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
await found();
if (wanted === 'live') {
  await live();
  await browser.close();
  end();
}

for (const [who, page, paths] of [['stranger', stranger, strangers], ['member', member, members]]) {
  for (const path of paths.filter(path => !only || only.includes(path))) {
    const found = new Map();
    for (const theme of wanted ? [] : ['light', 'dark']) {
      await page.emulateMediaFeatures([
        { name: 'prefers-color-scheme', value: theme },
        // Colours half way to others are nobody's.
        { name: 'prefers-reduced-motion', value: 'reduce' },
      ]);
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
    if (wanted) {
      if (only || kinds.includes(path) || (path === '/' && who)) rows.push({ who, path });
      continue;
    }
    rows.push({ who, path, axe: found.size, ...(await weight(page, path)) });
    console.error(`${who} ${path}: axe ${found.size}, ${rows.at(-1).first} and ${rows.at(-1).later} KiB`);
  }
}
if (wanted === 'lighthouse') {
  for (const row of rows) await lighthouse(row);
}
await browser.close();
end();

// A new account, and its key in a file.
async function signUp() {
  await member.goto(`${portal}/signup`);
  await member.type('#handle', handle);
  await member.type('#email', 'bars@example.org');
  await member.type('#password', password);
  await Promise.all([member.waitForNavigation(), member.click(signUpButton)]);
  await member.goto(`${portal}/settings`);
  writeFileSync('bars.key', await recovered(member), { mode: 0o600 });
}

// The account's own key, from its recovery file; the tab stays where it is.
async function recovered(page) {
  return page.evaluate(async password => {
    const settings = new DOMParser().parseFromString(await (await fetch('/settings')).text(), 'text/html');
    const form = settings.querySelector('form[action="/settings/recovery"]');
    form.querySelector('#password').value = password;
    return (await fetch('/settings/recovery', { method: 'POST', body: new URLSearchParams(new FormData(form)) })).text();
  }, password);
}

function deploy() {
  const run = (...words) => execFileSync(runrig, ['--key', 'bars.key', ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
  run('image', 'load', image);
  writeFileSync('compose.yaml', `name: ${job}
services:
  web:
    image: image:latest
    command: ["sh", "-c", "i=0; while :; do echo tick $$i; i=$$((i+1)); sleep 1; done"]
    deploy: { replicas: 2, resources: { limits: { cpus: "0.1", memory: 32m } } }
`);
  // A host that is busy counts as silent for a while.
  for (let left = 20; ; left--) {
    try {
      return run('up', '-f', 'compose.yaml', '--yes', '--wait');
    } catch (error) {
      if (error.status !== 7 || !left) throw error;
      execFileSync('sleep', ['3']);
    }
  }
}

// Pages that only what this cloud has can name: a space, a host's own, a newcomer that is waited for.
async function found() {
  await member.goto(`${portal}/explorer/hosts`);
  const host = await member.$eval("main a[href^='/explorer/hosts/']", a => a.getAttribute('href'));
  await member.goto(`${portal}/hosts/new`);
  await Promise.all([member.waitForNavigation(), member.click("form[action='/hosts/new'] button.primary")]);
  const watched = await member.$eval(".foot-note a[href^='/hosts/new/']", a => a.getAttribute('href'));
  strangers.push(host, `/o/${handle}`, `/o/${handle}/books`);
  members.push(watched);
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

function middle(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

async function lighthouse(row) {
  const { default: run, desktopConfig } = await import(pathToFileURL(installed.resolve('lighthouse')));
  const page = row.who === 'member' ? member : stranger;
  for (const [form, config] of [['desktop', desktopConfig], ['phone', undefined]]) {
    const results = [];
    for (let at = 0; at < RUNS; at++) {
      results.push((await run(portal + row.path,
        { output: 'json', logLevel: 'error', disableStorageReset: true, onlyCategories: ['performance', 'accessibility', 'best-practices', 'seo'] },
        config, page)).lhr);
    }
    const points = Object.keys(results[0].categories)
      .map(name => middle(results.map(r => Math.round((r.categories[name].score ?? 0) * 100))));
    row[form] = points.join(' · ');
    const least = [bars[form], 100, 100, 100];
    if (points.some((p, at) => p < least[at])) {
      const lost = Object.values(results[0].audits).filter(a => a.score !== null && a.score < 0.9 && a.scoreDisplayMode !== 'informative').map(a => a.id);
      faults.push(`${row.path} ${form}: ${row[form]} (${lost.slice(0, 8).join(', ')})`);
    }
  }
  console.error(`${row.who} ${row.path}: ${row.desktop} at a desk, ${row.phone} on a phone`);
}

// What this tab's main thread works in so many seconds, in percent of a core. The browser counts from
// the moment it is asked to, until that session ends.
async function over(page, seconds) {
  const tab = await page.createCDPSession();
  await tab.send('Performance.enable');
  const worked = async () =>
    (await tab.send('Performance.getMetrics')).metrics.find(m => m.name === 'TaskDuration').value;
  const before = await worked();
  await new Promise(done => setTimeout(done, seconds * 1000));
  const after = await worked();
  await tab.detach();
  return 100 * (after - before) / seconds;
}

function told(what, value, unit, most) {
  rows.push({ what, value: `${value} ${unit}`, most: `${most} ${unit}` });
  console.error(`${what}: ${value} ${unit}`);
  if (!(value <= most)) faults.push(`${what}: ${value} ${unit}, more than ${most}`);
}

async function live() {
  await newcomer();
  // One tab that everything moves in: height, use, parts that are read again.
  for (const [path, ready] of [['/', '.uplot'], ['/explorer', 'main'], [`/jobs/${job}/logs`, '.log p']]) {
    const costs = [];
    await member.goto(portal + path);
    // A tab that is not looked at does nothing.
    await member.bringToFront();
    await member.waitForSelector(ready, { timeout: 30_000 });
    await new Promise(done => setTimeout(done, 3000));
    for (let at = 0; at < RUNS; at++) costs.push(await over(member, 10));
    told(`live tab ${path}, its main thread`, Number(middle(costs).toFixed(1)), '% of a core', alive.core);
  }
  // From the list to the first line, by one click.
  const waits = [];
  for (let at = 0; at < 5; at++) {
    await member.goto(`${portal}/jobs`);
    const started = performance.now();
    await member.click(`a[href="/jobs/${job}/logs"]`);
    await member.waitForFunction(() => document.querySelector('.log p time'), { polling: 5 });
    waits.push(performance.now() - started);
  }
  told('list to the first line of a live log', Math.round(middle(waits)), 'ms', alive.line);
  // As many tabs as people keep open: each loads, and is told of new blocks when it is looked at.
  const tabs = [];
  let slowest = 0;
  for (let at = 0; at < alive.tabs; at++) {
    const tab = await member.browserContext().newPage();
    const started = performance.now();
    await tab.goto(`${portal}/`, { waitUntil: 'load' });
    slowest = Math.max(slowest, (performance.now() - started) / 1000);
    tabs.push(tab);
  }
  told(`${alive.tabs} tabs, until the slowest is there`, Number(slowest.toFixed(1)), 's', alive.tab);
  let stalled = 0;
  for (const tab of tabs) {
    await tab.bringToFront();
    const started = performance.now();
    const height = () => document.querySelector('[data-live=height]')?.textContent;
    const was = await tab.evaluate(height);
    await tab.waitForFunction(was => document.querySelector('[data-live=height]')?.textContent !== was,
      { polling: 50, timeout: 20_000 }, was).catch(() => {});
    stalled = Math.max(stalled, (performance.now() - started) / 1000);
  }
  told(`${alive.tabs} tabs, until the slowest is told of a block`, Number(stalled.toFixed(1)), 's', alive.tab);
  for (const tab of tabs) await tab.close();
}

// From the sign-up page to a job that answers, without the time that a person types; the image lies
// in the registry.
async function newcomer() {
  const took = [];
  const screens = new Set();
  for (let at = 0; at < RUNS; at++) {
    const page = await open();
    page.on('framenavigated', frame => { if (frame === page.mainFrame()) screens.add(new URL(frame.url()).pathname.replace(/newcomer-.*/, 'NAME')); });
    const name = `newcomer-${Date.now()}`;
    let clock = 0, since = performance.now();
    // As from "Run this" on the first page.
    await page.goto(`${portal}/signup?next=/jobs/new?example=site`);
    await page.type('#handle', name);
    await page.type('#email', `${name}@example.org`);
    await page.type('#password', password);
    await Promise.all([page.waitForNavigation(), page.click(signUpButton)]);
    clock += performance.now() - since;
    const key = await recovered(page);
    writeFileSync(`${name}.key`, key, { mode: 0o600 });
    execFileSync(runrig, ['--key', `${name}.key`, 'image', 'load', image], { stdio: ['ignore', 'ignore', 'inherit'] });
    since = performance.now();
    await page.$eval('#compose', (n, text) => { n.value = text; }, `name: ${name}
services:
  web:
    image: image:latest
    command: ["sh", "-c", "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"]
    ports: ["8080"]
    deploy: { resources: { limits: { cpus: "0.1", memory: 32m } } }
`);
    await Promise.all([page.waitForNavigation(), page.click('button[value=quote]')]);
    await Promise.all([page.waitForNavigation(), page.click('form:has(input[value=deploy]) button')]);
    for (;;) {
      const url = await page.evaluate(() => document.querySelector('main .feed a')?.href);
      const text = url && await asked(url);
      if (text?.includes('hello')) break;
      if (performance.now() - since > 120_000) { faults.push(`${name} never answered`); break; }
      await new Promise(done => setTimeout(done, 100));
      if (!url) await page.reload();
    }
    took.push((clock + performance.now() - since) / 1000);
    execFileSync(runrig, ['--key', `${name}.key`, 'down', name], { stdio: ['ignore', 'ignore', 'inherit'] });
    await page.browserContext().close();
  }
  told('newcomer: from the sign-up page to an answer of his job', Number(middle(took).toFixed(1)), 's', alive.answer);
  screens.delete('/settings');
  console.error(`newcomer: pages ${[...screens].join(', ')}`);
}

// What a job answers, or nothing. Its name ends in .localhost: browsers and curl know where that is, Node does not.
function asked(url) {
  return new Promise(done => {
    const lookup = (_, options, found) =>
      options.all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4);
    get(url, { lookup }, answer => {
      let text = '';
      answer.on('data', part => { text += part; });
      answer.on('end', () => done(answer.statusCode === 200 ? text : ''));
    }).on('error', () => done(''));
  });
}

function end() {
  const table = wanted === 'live'
    ? ['| what | found | target |', '|---|---:|---:|', ...rows.map(r => `| ${r.what} | ${r.value} | ${r.most} |`)]
    : ['| page | who | axe | KiB first / later | outside | Lighthouse desktop | phone |', '|---|---|---|---|---|---|---|',
      ...rows.map(r => `| \`${r.path}\` | ${r.who} | ${r.axe ?? ''} | ${r.first ?? ''} / ${r.later ?? ''} | ${r.outside ?? ''} | ${r.desktop ?? ''} | ${r.phone ?? ''} |`)];
  console.log(table.join('\n'));
  for (const fault of faults) console.log(`fault: ${fault}`);
  process.exit(faults.length ? 1 : 0);
}
