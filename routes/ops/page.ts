import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyPluginAsync } from 'fastify'

/** One answer with script and style, so that the page still works while everything else shuts down. */
const page: FastifyPluginAsync = async ops => {
  const [shell, style, script] = await Promise.all(['index.html', 'style.css', 'script.js'].map(async file => await readFile(join(import.meta.dirname, 'page', file), 'utf8')))
  const html = filled(filled(shell, 'style', style), 'script', script)
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(html, 'script')}`,
    `style-src ${hashOf(html, 'style')}`,
    'img-src data:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'"
  ].join('; ')

  ops.get('/', async (_request, reply) => {
    reply.headers({ 'content-security-policy': policy, 'referrer-policy': 'no-referrer', 'cross-origin-opener-policy': 'same-origin' })
    reply.type('text/html; charset=utf-8')
    return html
  })
}

export default page

function filled (html = '', element: 'script' | 'style', content = ''): string {
  const empty = `<${element}></${element}>`
  if (!html.includes(empty)) throw new Error(`The page has no empty <${element}>.`)
  return html.replace(empty, () => `<${element}>\n${content}</${element}>`)
}

/** The browser runs only code with this hash, even if other code gets into the page. */
function hashOf (html: string, element: 'script' | 'style'): string {
  const content = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(html)?.[1]
  if (content === undefined) throw new Error(`The page has no <${element}>.`)
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`
}
