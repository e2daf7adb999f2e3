import t from 'tap'
import { demoPayments } from '../../plugins/demo-payments.ts'
import { startApp } from '../app.ts'
import { keepsThePort } from './port.ts'

t.test('the demo gateway does what the service relies on in every gateway', async t => {
  const { app } = await startApp(t)
  await keepsThePort(t, demoPayments(app.prisma), { declined: 'declined-dora' })
})
