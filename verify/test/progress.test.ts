import t from 'tap'
import { Progress } from '../progress.ts'

t.test('at a terminal the progress is drawn in place, below the lines that stay', async t => {
  const { out, written } = terminal({ isTTY: true, columns: 30 })
  const progress = new Progress(out)
  progress.state('a state that is longer than the terminal is wide')
  progress.state('another')
  progress.line('a line')
  t.match(written().replaceAll('\r\x1b[K', '<erase>'), /^<erase> +\d\.\d s {2}a state that is lon<erase> +\d\.\d s {2}another<erase> +\d\.\d s {2}a line\n$/)
})

t.test('without a terminal the progress is written as a line, and not at every call', async t => {
  const { out, written } = terminal({})
  const progress = new Progress(out)
  progress.line('a line')
  for (let calls = 0; calls < 100; calls++) progress.state('the state')
  progress.end('the end')
  t.match(written(), /^ +\d\.\d s {2}a line\n(?: +\d\.\d s {2}the state\n)?the end\n$/)
})

function terminal (properties: { isTTY?: boolean, columns?: number }) {
  const written: string[] = []
  return { written: () => written.join(''), out: { ...properties, write: (text: string) => written.push(text) > 0 } }
}
