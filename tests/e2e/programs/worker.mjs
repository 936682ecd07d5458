// A worker of the Node SDK that does what lines of JSON on its standard input say; the twin of
// worker.py, which explains the lines.

import { once } from 'node:events'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const require = createRequire(`${process.env.SDK_DIRECTORY}/`)
const load = async (name) => import(pathToFileURL(require.resolve(name)))
const { registerWorker } = await load('iii-sdk')
// Packages up to 0.13 have a method instead.
const helpers = await load('iii-sdk/helpers').catch(() => undefined)

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`)
const pattern = (size) => Buffer.from(Array.from({ length: size }, (_, i) => i % 256))

// The write that keeps a loop going: of the same key.
const oneMore = ({ scope, key, new_value: number }) => ({
  function_id: 'state::set',
  payload: { scope, key, value: number + 1 },
})

// Of a trigger type: refuses what says so, tells of the rest.
const provider = {
  async registerTrigger({ id, function_id, config, metadata }) {
    if (config?.refuse) throw new Error('refused as asked')
    tell({ event: 'bound', id, binding: { function_id, config, metadata: metadata ?? null } })
  },
  async unregisterTrigger({ id }) {
    tell({ event: 'unbound', id })
  },
}

const { worker_name: workerName, ...options } = JSON.parse(process.env.WORKER_OPTIONS)
const sdk = registerWorker(process.env.III_URL, { workerName, ...options })
const functions = new Map()
const bindings = []
const released = new AbortController()

const provide = (id) => sdk.registerTriggerType({ id, description: "a test's" }, provider)

const channels = {
  async write({ writer, text, size }) {
    writer.sendMessage(text)
    writer.stream.end(pattern(size))
    await once(writer.stream, 'finish')
  },
  async read({ reader }) {
    const texts = []
    reader.onMessage((text) => texts.push(text))
    const chunks = []
    for await (const chunk of reader.stream) chunks.push(chunk)
    const content = Buffer.concat(chunks)
    return { size: content.length, texts, is_whole: content.equals(pattern(content.length)) }
  },
}

const commands = {
  call: ({ request: { timeout_ms: timeoutMs, ...request } }) =>
    sdk.trigger({ ...request, ...(timeoutMs && { timeoutMs }) }),

  // One after another, none waiting for an answer.
  call_all({ requests }) {
    for (const request of requests) sdk.trigger({ ...request, action: { type: 'void' } })
    return null
  },

  serve({ function_id: functionId, behaviour, options }) {
    const handler = async (data, metadata) => {
      if (behaviour in channels) return channels[behaviour](data)
      tell({ event: 'called', function: functionId, data, metadata: metadata ?? null })
      const stumbles = behaviour === 'stumble' && data.attempt === 1
      if (behaviour === 'fail' || stumbles) throw new Error('kaboom')
      if (behaviour === 'hang') await new Promise(() => {})
      if (behaviour === 'wait') await once(released.signal, 'abort')
      if (behaviour === 'relay') return sdk.trigger(data.request)
      if (behaviour === 'again' && data.new_value < 20) await sdk.trigger(oneMore(data))
      if (behaviour === 'refuse') return false
      if (behaviour === 'provide') provide(data)
      return behaviour === 'echo' ? { got: data } : undefined
    }
    functions.set(functionId, sdk.registerFunction(functionId, handler, options))
    return null
  },

  // Let the handlers that wait go on.
  release() {
    released.abort()
    return null
  },

  withdraw({ function_id: functionId }) {
    functions.get(functionId).unregister()
    return null
  },

  bind: ({ trigger }) => bindings.push(sdk.registerTrigger(trigger)) - 1,

  unbind({ binding }) {
    bindings[binding].unregister()
    return null
  },

  async create_channel() {
    const channel = await (helpers ? helpers.createChannel(sdk) : sdk.createChannel())
    return { reader: channel.readerRef, writer: channel.writerRef }
  },
}

async function carryOut({ n, do: name, ...args }) {
  try {
    tell({ n, result: await commands[name](args) })
  } catch (error) {
    const code = error.code ?? error.name
    // The SDK puts the code in front of the message that came.
    tell({ n, error: { code, message: error.message.replace(`${code}: `, '') } })
  }
}

tell({ event: 'ready' })
for await (const line of createInterface({ input: process.stdin })) void carryOut(JSON.parse(line))
await sdk.shutdown()
process.exit(0)
