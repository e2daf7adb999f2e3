import t from 'tap'
import { demoPayments } from '../../plugins/demo-payments.ts'
import { startApp } from '../app.ts'
import { keepsThePort } from './port.ts'

t.test('the demo gateway fulfils the port', async t => {
  const { app } = await startApp(t)
  await keepsThePort(t, demoPayments(app.prisma), { declined: 'declined-dora' })
})
