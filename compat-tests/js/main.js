// kafkajs behind the command line that harness/foreign.py drives: write, read, join, admin.

const readline = require('node:readline')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, KafkaJSProtocolError, logLevel } =
  require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const SESSION_MS = 6000
const HEARTBEAT_MS = 500

const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`)
const step = (name, found) => say({ event: 'step', name, found })

function connect(kafka, clientId = 'kafkajs') {
  const retry = { initialRetryTime: 50, retries: 100, maxRetryTime: 1000 }
  return new Kafka({ clientId, brokers: kafka.split(','), retry, logLevel: logLevel.ERROR })
}

async function write(kafka, topic, codec) {
  const producer = connect(kafka).producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = { topic, compression: CODECS[codec], messages: [{ value: line }] }
    try {
      const [result] = await producer.send(request)
      say({ event: 'acked', value: line, offset: Number(result.baseOffset) })
    } catch (error) {
      say({ event: 'refused', value: line, error: String(error) })
    }
  }
  await producer.disconnect()
}

function sayRead(topic, message) {
  say({ event: 'read', topic, offset: Number(message.offset), value: String(message.value) })
}

// kafkajs reads with groups only: this one commits nothing, and is nobody else's.
async function read(kafka, topic, count) {
  const consumer = connect(kafka).consumer({ groupId: `read-${topic}-${process.pid}` })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = Number(count)
  await new Promise((resolve) => {
    const eachMessage = async ({ topic, message }) => {
      if (left > 0) sayRead(topic, message)
      if (--left === 0) resolve()
    }
    return consumer.run({ autoCommit: false, eachMessage })
  })
  await consumer.disconnect()
}

async function join(kafka, groupId, name, ...topics) {
  const consumer = connect(kafka, name).consumer({
    groupId,
    sessionTimeout: SESSION_MS,
    heartbeatInterval: HEARTBEAT_MS,
    maxWaitTimeInMs: 500,
  })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      sayRead(topic, message)
      const offset = String(Number(message.offset) + 1)
      await consumer.commitOffsets([{ topic, partition, offset }])
    },
  })
  for await (const _ of process.stdin); // until it is told to leave
  await consumer.disconnect()
}

async function admin(kafka, topic, groupId) {
  const client = connect(kafka).admin()
  await client.connect()
  const topics = [{ topic, numPartitions: 1, configEntries: [{ name: 'retention.ms', value: '7200000' }] }]
  await client.createTopics({ topics, waitForLeaders: true })
  const found = await client.fetchTopicMetadata({ topics: [topic] })
  step('partitions', found.topics[0].partitions.length)
  // To this library a topic that exists already is no error, but a `false`.
  step('created twice', (await client.createTopics({ topics })) ? 'NONE' : 'TOPIC_ALREADY_EXISTS')

  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const describe = async (name) => {
    const described = await client.describeConfigs({
      includeSynonyms: false,
      resources: [{ ...resource, configNames: ['retention.ms'] }],
    })
    step(name, described.resources[0].configEntries[0].configValue)
  }
  await describe('retention')
  const configEntries = [{ name: 'retention.ms', value: '3600000' }]
  await client.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] })
  await describe('retention altered')

  const { groups } = await client.listGroups()
  step('group is listed', groups.some((group) => group.groupId === groupId))
  const described = await client.describeGroups([groupId])
  step('group', described.groups[0].state)
  await client.deleteGroups([groupId])
  step('group deleted twice', await codeOf(client.deleteGroups([groupId])))

  await client.deleteTopics({ topics: [topic] })
  step('topic is listed', (await client.listTopics()).includes(topic))
  await client.disconnect()
}

// The name of Kafka's error code.
async function codeOf(promise) {
  try {
    await promise
    return 'NONE'
  } catch (error) {
    const cause = error.groups?.[0]?.error ?? error
    return cause instanceof KafkaJSProtocolError ? cause.type : String(cause)
  }
}

const [command, ...rest] = process.argv.slice(2)
const run = { write, read, join, admin }[command]
if (!run) throw new Error(`write|read|join|admin KAFKA …, not ${command}`)
run(...rest).then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  },
)
