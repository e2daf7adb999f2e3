import { inspect } from 'node:util'
import { follow } from '../judge/told.ts'
import type { Counterexample, Verdict } from '../verdict.ts'
import type { Charts } from './charts.ts'
import { html, type Markup } from './markup.ts'
import type { Mark } from './stops.ts'
import { asked, count, counted, names, told } from './words.ts'

/** How many of each invariant are shown in full; the others are one sentence. verdict.json has all details. */
const inFull = 4
const exchangesShown = 30
/** The most characters of stored data. */
const storedShown = 6_000

export function counterexamples ({ counterexamples }: Verdict, charts: Charts, marks: readonly Mark[], beginning: number): Markup {
  if (counterexamples.length === 0) return html``
  return html`<section id="counterexamples">
<h2>What shows it</h2>
<p>Of each broken promise the first ${inFull} in full, with all that was done with the order; verdict.json has more.</p>
${[...Map.groupBy(counterexamples, ({ invariant }) => invariant).values()].map(found => html`
${found.slice(0, inFull).map(counterexample => article(counterexample, charts, marks, beginning))}
${found.length > inFull ? html`<ul class="plain">${found.slice(inFull).map(({ invariant, says }) => html`<li>${names[invariant]}: ${says}</li>`)}</ul>` : ''}`)}
</section>`
}

function article (
  { invariant, says, customer, key, orderId, lines, stored }: Counterexample,
  charts: Charts,
  marks: readonly Mark[],
  beginning: number
): Markup {
  const { exchanges } = follow(lines, [])
  const shown = exchanges.slice(0, exchangesShown)
  const about = Object.entries({ customer, key, order: orderId }).filter(([, value]) => value !== undefined)
  const at = (time: number | undefined): string => time === undefined ? '–' : ((time - beginning) / 1_000).toFixed(3)
  return html`<article data-invariant="${invariant}">
<h3 class="broken">${names[invariant]}</h3>
<p>${says}</p>
<p class="of">${about.map(([name, value], i) => html`${i > 0 ? ' · ' : ''}${name} <code>${value}</code>`)}</p>
${shown.length === 0
  ? html`<p>No client asked for it.</p>`
  : html`<figure>${charts.counterexample(shown, marks, beginning)}</figure>
<table>
<thead><tr><th class="number">asked at, s</th><th class="number">told at, s</th><th>asked</th><th>told</th></tr></thead>
<tbody>${shown.map(({ invocation, completion }) => html`<tr><td class="number">${at(invocation.at)}</td><td class="number">${at(completion?.at)}</td><td>${asked(invocation)} <code>${JSON.stringify('order' in invocation.operation ? invocation.operation.order : {})}</code></td><td>${told(completion)} <code>${completion?.order === undefined ? '' : JSON.stringify(completion.order)}</code></td></tr>`)}</tbody>
</table>`}
${exchanges.length > shown.length ? html`<p class="of">and ${counted(exchanges.length - shown.length, 'request')} more</p>` : ''}
<pre>${shorten(`stored: ${inspect(stored, { depth: 8, breakLength: 110, maxArrayLength: 50 })}`)}</pre>
</article>`
}

function shorten (text: string): string {
  return text.length > storedShown ? `${text.slice(0, storedShown)} … and ${count(text.length - storedShown)} characters more` : text
}
