// Sums a year up when its last day is in the totals. A worker of the iii Node SDK.

import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL ?? 'ws://127.0.0.1:49134', {
  workerName: 'summaries',
})

const daysOf = (year) => (new Date(year, 2, 0).getDate() === 29 ? 366 : 365)

worker.registerFunction('summaries::on_totals', async ({ key: year, new_value: totals }) => {
  if (totals.days !== daysOf(Number(year))) return
  const summary = {
    days: totals.days,
    rain_mm: totals.rain_tenths_mm / 10,
    sunny_days: totals.sun,
    storms: (totals.storms ?? []).length,
  }
  await worker.trigger({
    function_id: 'state::set',
    payload: { scope: 'summaries', key: year, value: summary },
  })
  console.log(`summaries (Node): ${year} is complete`)
})
worker.registerTrigger({
  type: 'state',
  function_id: 'summaries::on_totals',
  config: { scope: 'totals' },
})
// Registrations are not answered, but what comes behind them is.
await worker.trigger({ function_id: 'state::list_groups', payload: {} })
console.log('summaries (Node): ready')

process.on('SIGTERM', async () => {
  await worker.shutdown()
  process.exit(0)
})
