// Stripe's webhook by fastify and the sync engine: processWebhook verifies, writes the object's row, and then 200 is sent.
//
//   node server.cjs migrate   creates the schema `stripe`
//   node server.cjs           serves
//
// CommonJS, because runMigrations of the other build looks for __dirname, which it does not have.
const fastify = require('fastify')
const { StripeSync, runMigrations } = require('@supabase/stripe-sync-engine')

const { DATABASE_URL, PORT, STRIPE_WEBHOOK_SECRET } = process.env

async function serve() {
  const sync = new StripeSync({
    poolConfig: { connectionString: DATABASE_URL, max: 10, keepAlive: true },
    stripeSecretKey: 'sk_test_benchmark',
    stripeWebhookSecret: STRIPE_WEBHOOK_SECRET,
    backfillRelatedEntities: false,
    autoExpandLists: false,
  })
  // Its one call of Stripe's API in this load, the line items of each checkout session, is cut out.
  sync.fillCheckoutSessionsLineItems = async () => {}

  const app = fastify({ logger: false })
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
  app.post('/webhooks/stripe', async (request, reply) => {
    await sync.processWebhook(request.body, request.headers['stripe-signature'])
    return reply.code(200).send({ received: true })
  })
  await app.listen({ host: '127.0.0.1', port: Number(PORT) })
}

async function migrate() {
  let failure
  const logger = { info() {}, error(error) { failure = error } }
  await runMigrations({ databaseUrl: DATABASE_URL, schema: 'stripe', logger })
  if (failure) throw failure // which it logs, and does not raise
}

(process.argv[2] === 'migrate' ? migrate() : serve()).catch((error) => {
  console.error(error)
  process.exit(1)
})
