import { existsSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { JSDOM } from 'jsdom'
import { chromium, type Browser } from 'playwright-core'
import t from 'tap'
import { Drawing } from '../../report/drawing.ts'
import { renderReport, writeReport } from '../../report/html.ts'
import { beginning, hostile, madeUpRun } from './made-up-run.ts'
import { isCompletion, type Completion } from '../../history.ts'
import type { Exchange } from '../../judge/told.ts'

const run = madeUpRun()
const whole = renderReport(run)

function parsed (text: string): Document {
  return new JSDOM(text).window.document
}

function titles (document: Document, chart: string): string[] {
  return [...document.querySelectorAll(`[data-chart=${chart}] title`)].map(title => title.textContent ?? '')
}

t.test('the page has every section, and begins with the verdict', async t => {
  const document = parsed(whole)
  t.same([...document.querySelectorAll('section')].map(({ id }) => id),
    ['exposed', 'safety', 'availability', 'timeline', 'promises', 'counterexamples', 'latency', 'stops', 'coverage', 'conditions', 'not-tested', 'again'])
  t.equal(document.querySelector('header .word')?.textContent, 'broken')
  t.match(document.querySelector('h1')?.textContent, 'Promises were broken: lost 6, duplicated 6, wrong content 6.')
  t.same([...document.querySelectorAll('.numbers dd')].map(({ textContent }) => textContent), ['400', '300', '80', '20', '12'])
  t.match(document.querySelector('#again pre')?.textContent, '--seed 11')
})

t.test('the page shows first what was exposed: how often, how much of it broke, and what that number would have missed', async t => {
  const held = parsed(renderReport({ ...run, verdict: { ...run.verdict, exposed: 250, checked: [{ invariant: 'lost', says: '', looked: 1, broken: 0 }] } }))
  t.same([...held.querySelectorAll('#exposed tbody tr')].map(row => [...row.querySelectorAll('.number')].map(({ textContent }) => textContent)), [['250', '0', 'less than 1 in 83']])
  t.same([...parsed(whole).querySelectorAll('#exposed tbody tr')].map(row => [...row.querySelectorAll('.number')].map(({ textContent }) => textContent)), [['250', '6', 'it was found']])
  t.match(parsed(whole).querySelector('#safety')?.textContent, 'lost, duplicated, wrong content of 8 promises that were checked')
  t.match(parsed(whole).querySelector('#availability')?.textContent, '87.13 % of 474 requests got a proper answer')
})

t.test('each request that met a stop is drawn, from its sending to its end', async t => {
  const [stop] = run.verdict.faults.filter(({ drainMs }) => drainMs !== null)
  const { at = 0 } = stop ?? {}
  const invocation = { type: 'invoke', op: 1, at: at - 30, scheduled: at - 30, purpose: 'new', operation: { kind: 'place', customer: 'a', key: 'b', order: { currency: 'EUR', items: [] } } } as const
  const exchange = (completion: Partial<Completion>): Exchange => ({ invocation, settling: false, begun: 1, known: 0, completion: { type: 'info', op: 1, at: at + 20, sent: at - 20, ...completion } })
  const drawing = new Drawing(run.verdict.faults)
  drawing.add([exchange({ type: 'ok', status: 201 }), exchange({ error: 'closed' }), exchange({ type: 'fail', status: 503, problem: 'not-started' }), exchange({ type: 'fail', error: 'ECONNREFUSED' })])
  drawing.add([exchange({ type: 'ok', status: 201, at: at - 1 })])
  const document = parsed(renderReport({ verdict: run.verdict, drawing: Object.assign(drawing, { beginning }) }))
  t.equal(document.querySelectorAll('[data-chart=meeting]').length, 1)
  t.match(document.querySelector('#stops')?.textContent, '3 requests met it: 1 answered, 1 refused, 1 cut; 1 more found no listener')
  t.ok(titles(document, 'meeting').includes('place: sent 20 ms before the signal, info closed 20 ms after the signal'))
})

t.test('each request is drawn once, by its outcome', async t => {
  const drawn: Record<string, number> = {}
  for (const title of titles(parsed(whole), 'requests')) {
    const [, count, fate] = /: (\d+) (\S+)$/.exec(title) ?? []
    if (fate !== undefined) drawn[fate] = (drawn[fate] ?? 0) + Number(count)
  }
  const expected: Record<string, number> = {}
  const completions = new Map(run.history.filter(isCompletion).map(line => [line.op, line]))
  for (const line of run.history) {
    if (line.type !== 'invoke') continue
    const completion = completions.get(line.op)
    const fate = completion?.type === 'ok'
      ? 'served'
      : line.purpose === 'hang-up' ? 'hung-up' : completion?.type !== 'fail' ? 'unknown' : completion.problem === 'out-of-stock' ? 'answered' : 'turned-away'
    expected[fate] = (expected[fate] ?? 0) + 1
  }
  t.equal(Object.keys(expected).length, 5)
  t.same(drawn, expected)
})

t.test('each fault and each phase of a stop is drawn in the lane of what it struck', async t => {
  const document = parsed(whole)
  const lanes = titles(document, 'lanes')
  t.equal(lanes.filter(title => title.includes('in flight')).length, 12)
  // Each fault has a recovery; of the six stops, three report three phases each, and three report none.
  t.equal(lanes.filter(title => title.includes(' for ')).length, 12 + 3 * 3 + 3)
  t.match(document.querySelector('[data-chart=lanes]')?.textContent, /brownout.*instance 0.*instance 1/s)
  t.equal(titles(document, 'stops').length, 3 * 3 + 3)
  t.equal(document.querySelectorAll('#faults tbody tr').length, 3)
})

t.test('the page says what was not checked, and why', async t => {
  const row = parsed(whole).querySelector('[data-invariant=oversold]')
  t.match(row?.textContent, 'Not checked: the target tells no stock')
  t.match(row?.textContent, /not checked$/)
  t.equal(parsed(whole).querySelector('[data-invariant=lost] .broken')?.textContent, '6')
})

t.test('each counterexample shows its requests over time, the faults between them, and the stored rows', async t => {
  const articles = [...parsed(whole).querySelectorAll('article')]
  t.equal(articles.length, 3 * 4, 'four of each invariant are shown in full')
  t.equal(parsed(whole).querySelectorAll('#counterexamples > ul > li').length, 3 * 2, 'the others are shown in one line')
  const [first] = articles
  t.same([...first?.querySelectorAll('tbody tr') ?? []].map(row => [...row.querySelectorAll('.number')].map(({ textContent }) => textContent)),
    [['3.000', '3.900'], ['4.000', '–'], ['5.000', '5.300']])
  t.match(first?.querySelector('[data-chart=order]')?.textContent, /ok 201.*no answer.*fail 409/s)
  const within = run.verdict.faults.filter(({ at }) => at > beginning + 3_000 && at < beginning + 5_300).length
  t.equal(within, 1)
  t.equal(first?.querySelectorAll('[data-chart=order] line title').length, within)
  t.match(first?.querySelector('pre')?.textContent, /stored: .*order-7/s)
})

t.test('keys, ids and bodies appear as text, whatever they contain', async t => {
  const document = parsed(whole)
  t.equal(document.querySelectorAll('script, img, iframe, link, object, [onerror], [onload]').length, 0)
  t.equal(document.querySelectorAll('style').length - 1, document.querySelectorAll('svg').length, 'the page\'s and those of the charts')
  t.match(document.querySelector('article')?.textContent, hostile)
  t.match(document.querySelector('header .of')?.textContent, hostile)
})

t.test('the page loads nothing from elsewhere', async t => {
  const document = parsed(whole)
  t.equal(document.querySelectorAll('[src], [href]').length, 0)
  t.notMatch(whole, /@import|url\(/)
  t.same([...new Set(whole.match(/https?:[^"\s<]*/g))].filter(url => !url.startsWith('http://www.w3.org/')), [])
})

t.test('an unknown verdict says why, even if no request was sent', async t => {
  const verdict = { ...run.verdict, verdict: 'unknown', faults: [], counterexamples: [], operations: {}, missing: ['No order was acknowledged.', 'Nothing was read.'] } as const
  const document = parsed(renderReport({ verdict, drawing: new Drawing() }))
  t.same([...document.querySelectorAll('#missing li')].map(({ textContent }) => textContent), verdict.missing)
  t.match(document.querySelector('#timeline')?.textContent, 'Nothing was asked')
  t.match(document.querySelector('#coverage')?.textContent, 'There was no fault.')
  t.equal(document.querySelectorAll('svg').length, 0)
})

t.test('a long run gives a page of less than 2 MB, which says what it leaves out', async t => {
  const long = madeUpRun({ requests: 100_000, faults: 2_000, duration: 600_000 })
  const counterexamples = Array.from({ length: 10 }, () => long.verdict.counterexamples).flat()
  const text = renderReport({ drawing: long.drawing, verdict: { ...long.verdict, counterexamples } })
  t.ok(Buffer.byteLength(text) < 2_000_000, `${Buffer.byteLength(text)} bytes`)
  t.match(parsed(text).querySelector('#timeline')?.textContent, 'one fault in 7 is drawn')
})

const executablePath = (process.env.PATH ?? '').split(delimiter)
  .flatMap(directory => ['chromium', 'chromium-browser', 'google-chrome'].map(name => join(directory, name)))
  .find(path => existsSync(path))

t.test('in a browser', { skip: executablePath === undefined ? 'there is no chromium on the PATH' : false }, async t => {
  const directory = t.testdir()
  writeReport({ directory, ...run })
  const url = pathToFileURL(join(directory, 'report.html')).href
  t.equal(readFileSync(join(directory, 'report.html'), 'utf8'), whole)
  const browser = await chromium.launch({ executablePath: executablePath ?? '', args: ['--no-sandbox'] })
  t.teardown(async () => await browser.close())

  for (const colorScheme of ['light', 'dark'] as const) {
    t.test(`the page is quiet, fits a laptop and can be read in ${colorScheme}`, async t => {
      const { page, heard, asked } = await open(browser, url, { colorScheme, viewport: { width: 1280, height: 800 } })
      t.same(heard, [], 'the console is empty')
      t.same(asked, [url], 'the page makes no further request')
      t.equal(await page.title(), `broken: ${hostile}, all, seed 11`)
      t.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1280)
      t.same(await page.evaluate(faintTexts), [])
    })
  }

  t.test('the page is printed in light colours, on A4, with nothing cut off', async t => {
    const { page } = await open(browser, url, { colorScheme: 'dark', viewport: { width: 688, height: 1000 } })
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' })
    t.equal(await page.evaluate(() => document.documentElement.scrollWidth), 688)
    t.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(255, 255, 255)')
    t.same(await page.evaluate(faintTexts), [])
    const pdf = await page.pdf({ preferCSSPageSize: true, printBackground: true })
    t.match(pdf.subarray(0, 5).toString(), '%PDF-')
    t.match(pdf.toString('latin1'), /\/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]/)
  })
})

async function open (browser: Browser, url: string, options: Parameters<Browser['newPage']>[0]) {
  const page = await browser.newPage(options)
  const heard: string[] = []
  const asked: string[] = []
  page.on('console', message => heard.push(message.text()))
  page.on('pageerror', error => heard.push(error.message))
  page.on('request', request => asked.push(request.url()))
  await page.goto(url)
  return { page, heard, asked }
}

/** In the page: texts whose contrast with what is behind them is less than 4.5 (WCAG 2.2, 1.4.3). */
function faintTexts (): string[] {
  function luminance (color: string): number {
    const [red = 0, green = 0, blue = 0] = (color.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number).map(value => {
      const share = value / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  function behind (element: Element | null): string {
    if (element === null) return 'rgb(255, 255, 255)'
    const { backgroundColor } = getComputedStyle(element)
    return backgroundColor === 'rgba(0, 0, 0, 0)' ? behind(element.parentElement) : backgroundColor
  }
  return [...document.body.querySelectorAll('*')]
    .filter(element => [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent?.trim() !== '') && element.localName !== 'style' && element.localName !== 'title')
    .flatMap(element => {
      const { color, fill } = getComputedStyle(element)
      const [text, ground] = [luminance(element.closest('svg') === null ? color : fill), luminance(behind(element))]
      const contrast = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)
      return contrast < 4.5 ? [`${element.localName} ${element.textContent}: ${contrast.toFixed(2)}`] : []
    })
}
