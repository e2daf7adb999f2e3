import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { layerNames, type Layer } from '../../config/layers.ts'
import { reloadable, rotatable, type RunningSettings } from '../../config/running.ts'
import { requireOperator, type Operators } from './access.ts'
import type { FastifyInstance } from 'fastify'

const Nullable = Type.Union([Type.String(), Type.Null()])

const ChangeSchema = Type.Object({ name: Type.String(), from: Nullable, to: Nullable })

const ConfigSchema = Type.Object({
  environment: Nullable,
  central: Type.Union([Type.Null(), Type.Object({
    source: Type.String(),
    version: Type.String({ description: "In the source's own form" }),
    heardAt: Type.Union([Type.String(), Type.Null()], { description: 'When the source last answered; null: not since the start' }),
    copiedAt: Type.Union([Type.String(), Type.Null()], { description: 'The time of the copy, if the service uses it because the source is away' }),
    away: Type.Union([Type.String(), Type.Null()], { description: 'Why the source cannot be read' }),
    pending: Type.Union([Type.Null(), Type.Object({ version: Type.String(), inMs: Type.Integer(), names: Type.Array(Type.String()) })], { description: 'A change that waits for its time' }),
    refused: Type.Array(Type.String(), { description: 'The faults in what the source or a file holds now; it is not in force' })
  })]),
  hash: Type.String({ description: 'The hash of the central settings in force: the same in all instances' }),
  layers: Type.Array(Type.String(), { description: 'From the weakest to the strongest' }),
  takesRestart: Type.Array(ChangeSchema, { description: 'The changes since the start that need a restart' }),
  settings: Type.Record(Type.String(), Type.Object({
    value: Type.Union([Type.String(), Type.Null()], { description: 'In force; null: none, or a secret' }),
    layer: Type.Unsafe<Layer>({ type: 'string', enum: [...layerNames] }),
    secret: Type.Optional(Type.Literal(true)),
    reloadable: Type.Optional(Type.Literal(true))
  }))
})

export interface ConfigRouteOptions {
  service: FastifyInstance
  running: RunningSettings
  operators: Operators
}

/** The settings in force, with their layers. Of a secret it gives only the name. */
const config: FastifyPluginAsyncTypebox<ConfigRouteOptions> = async (ops, { service, running, operators }) => {
  ops.get('/config', {
    onRequest: async request => requireOperator(request, operators, 'read the settings', 'Nothing was read.'),
    schema: { response: { 200: ConfigSchema } }
  }, async () => {
    const central = service.centralState()
    return {
      environment: running.now.environment ?? null,
      central: central === undefined
        ? null
        : {
            source: central.source,
            version: central.version,
            heardAt: central.heardAt?.toISOString() ?? null,
            copiedAt: central.copiedAt?.toISOString() ?? null,
            away: central.away ?? null,
            pending: central.pending === undefined ? null : { ...central.pending, names: [...central.pending.names] },
            refused: [...central.refused]
          },
      hash: running.centralHash,
      layers: [...layerNames],
      takesRestart: [...running.takesRestart],
      settings: Object.fromEntries(running.shown.map(({ name, value, layer, isSecret }) => [name, {
        value,
        layer,
        ...isSecret && { secret: true as const },
        ...(reloadable.has(name) || rotatable.has(name)) && { reloadable: true as const }
      }]))
    }
  })
}

export default config
