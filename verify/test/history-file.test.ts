import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { HistoryFile, readHistory } from '../history-file.ts'
import type { Line } from '../history.ts'

const lines: Line[] = [
  { type: 'invoke', op: 1, at: 2.5, scheduled: 1.25, purpose: 'new', operation: { kind: 'read', customer: 'Zoë', id: 'a\nb' } },
  { type: 'info', op: 1, at: 3, error: 'timeout' }
]

t.test('an appended line can be read as soon as append has returned', async t => {
  const path = join(t.testdir(), 'history.jsonl')
  const file = new HistoryFile(path)
  for (const line of lines) file.append(line)
  t.same(readHistory(path), { lines, torn: null })
  file.close()
})

t.test('a torn last line is reported, and does not count as a line', async t => {
  const path = join(t.testdir(), 'history.jsonl')
  const file = new HistoryFile(path)
  for (const line of lines) file.append(line)
  file.close()
  appendFileSync(path, '{"type":"ok","op":1')
  t.same(readHistory(path), { lines, torn: '{"type":"ok","op":1' })
})

t.test('a broken line before the last one is an error that names it', async t => {
  const path = join(t.testdir({ 'history.jsonl': '{"type":"ok","op":1,"at":1}\n{"type":\n{"type":"ok","op":2,"at":1}\n' }), 'history.jsonl')
  t.throws(() => readHistory(path), { message: /line 2 is not JSON/ })
})

t.test('a history is not written into an existing file', async t => {
  const path = join(t.testdir({ 'history.jsonl': '' }), 'history.jsonl')
  t.throws(() => new HistoryFile(path), { code: 'EEXIST' })
})
