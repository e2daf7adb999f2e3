import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ForkError, judge } from '../../fork/arguments.ts'
import { wordsOf } from '../../fork/words.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const given = { directory: '/nowhere/table-talk', resource: 'booking', fields: undefined, without: undefined }

t.test('npm run fork takes the name from the folder, makes the plural, and reads fields in either spelling', async t => {
  t.match(judge({ ...given, fields: 'room:text, with_whom:text,nights:int,paidUp:bool', without: 'bench,deploy' }), {
    directory: '/nowhere/table-talk',
    name: 'table-talk',
    resource: 'booking',
    plural: 'bookings',
    fields: [
      { name: 'room', column: 'room', type: 'text' },
      { name: 'withWhom', column: 'with_whom', type: 'text' },
      { name: 'nights', column: 'nights', type: 'int' },
      { name: 'paidUp', column: 'paid_up', type: 'bool' }
    ],
    without: ['bench', 'deploy']
  })
  for (const [resource, plural] of [['category', 'categories'], ['day', 'days'], ['box', 'boxes'], ['dish', 'dishes']] as const) t.equal(judge({ ...given, resource }).plural, plural)
})

t.test('npm run fork reports all faults at once, and makes nothing', async t => {
  const directory = join(t.testdir({}), 'fork')
  const args = ['fork/run.ts', directory, 'more', '--resource', 'Order Item', '--fields', 'room:txt,9:int,status:text,nights:int,nights:int', '--without', 'tests', '--name', 'No Name']
  const { code, stderr } = await run(process.execPath, args, { cwd: root }).then(() => ({ code: 0, stderr: '' }), (error: { code: number, stderr: string }) => error)
  t.equal(code, 2)
  for (const fault of [/"more" is too much/, /--resource is "Order Item"/, /"room:txt"; a type is one of text, int, bool/, /"9:int"/, /"status", which is the name of something else/, /"nights" twice/, /not tests/, /cannot be called "No Name"/, /Nothing was made/]) t.match(stderr, fault)
  t.notOk(existsSync(directory))
})

t.test('npm run fork refuses a word with a meaning here, a field whose name it would change, a folder that is not empty, and no folder', async t => {
  for (const resource of ['order', 'payment', 'user', 'test']) t.throws(() => judge({ ...given, resource }), ForkError, resource)
  for (const field of ['order', 'orderType', 'lastOrder', 'last_order']) t.throws(() => judge({ ...given, fields: `${field}:text` }), /every "order" becomes "booking"/, field)
  t.doesNotThrow(() => judge({ ...given, fields: 'reorder:text' }))
  t.throws(() => judge({ ...given, resource: 'sheep', plural: 'sheep' }), /the same word/)
  t.throws(() => judge({ ...given, directory: root }), /not an empty folder/)
  t.throws(() => judge({ ...given, directory: undefined }), /No folder is named/)
})

t.test('a fork swaps the nouns, and leaves other words as they are', async t => {
  const booking = wordsOf({ name: 'table-talk', resource: 'booking', plural: 'bookings' })
  for (const [before, after] of [
    ['an order of Last Orders, in order', 'a booking of Table Talk, in order'],
    ['placeOrder(orders, orderId, OrderStore, ORDERS)', 'placeBooking(bookings, bookingId, BookingStore, BOOKINGS)'],
    ['SELECT FROM orders ORDER BY order_id', 'SELECT FROM bookings ORDER BY booking_id'],
    ['They may order; it was ordered. mayOrder', 'They may place a booking; it was ordered. mayPlaceBookings'],
    ['border, reorder, lock-order', 'border, reorder, lock-order']
  ] as const) t.equal(booking.inText(before), after)
  const category = wordsOf({ name: 'a', resource: 'entry', plural: 'entries' })
  t.equal(category.inText('an order, Orders, orders'), 'an entry, Entries, entries')
  t.equal(category.inPath('test/routes/orders.test.ts'), 'test/routes/entries.test.ts')
  t.equal(booking.inPath('test/payments/lock-order.test.ts'), 'test/payments/lock-order.test.ts')
})
