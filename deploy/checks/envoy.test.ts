import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'
import t from 'tap'
import { parse } from 'yaml'

// Without an Envoy: gRPC's client contains Envoy's API, and these tests compare every key and value of the file with it.

const modules = join(import.meta.dirname, '../node_modules')
const deps = join(modules, '@grpc/grpc-js-xds/deps')
const text = readFileSync(join(import.meta.dirname, '../envoy/envoy.yaml'), 'utf8')

const api = new protobuf.Root()
api.resolvePath = (_, path) => protobuf.common.get(path) === null ? join(folderOf(path), path) : path
api.loadSync([
  'envoy/config/bootstrap/v3/bootstrap.proto',
  'envoy/extensions/filters/http/router/v3/router.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto',
  'envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.proto',
  'envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto',
  'envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto',
  'envoy/extensions/upstreams/http/v3/http_protocol_options.proto'
], { keepCase: true }).resolveAll()

function folderOf (path: string): string {
  if (path.startsWith('google/protobuf/')) return join(modules, 'protobufjs')
  return join(deps, path.startsWith('envoy/') ? 'envoy-api' : path.startsWith('validate/') ? 'protoc-gen-validate' : path.startsWith('google/') ? 'googleapis' : 'xds')
}

t.test("envoy.yaml has only settings of Envoy's API", async t => {
  t.strictSame(faultsOf(text), [])
})

t.test('the check of envoy.yaml finds a misspelt key, a value of another kind and an unknown type', async t => {
  t.match(faultsOf(text.replace('unhealthy_threshold: 2', 'unhealty_threshold: 2')), [/health_checks\.0\.unhealty_threshold: no such field/])
  t.match(faultsOf(text.replace('type: STATIC', 'type: STATICS')), [/type: STATICS is none of/])
  t.match(faultsOf(text.replace('port_value: 80 }', 'port_value: http }')), [/port_value: "http" is no uint32/])
  t.match(faultsOf(text.replace('blackout_period: 10s', 'blackout_period: 10')), [/blackout_period: 10 is no duration/])
  t.match(faultsOf(text.replaceAll('router.v3.Router', 'router.v3.Rooter')), [/no such type .*Rooter/])
})

t.test('Envoy removes its own headers from answers to clients', async t => {
  t.match(text, 'response_headers_to_remove: [x-envoy-immediate-health-check-fail, endpoint-load-metrics]')
})

function faultsOf (text: string): string[] {
  return faults(parse(text), api.lookupType('envoy.config.bootstrap.v3.Bootstrap'), '')
}

/** Checks a value against the JSON form of protocol buffers. */
function faults (value: unknown, type: protobuf.Type | protobuf.Enum | string, at: string): string[] {
  if (type instanceof protobuf.Enum) return String(value) in type.values ? [] : [`${at}: ${String(value)} is none of ${Object.keys(type.values).join(', ')}`]
  if (typeof type === 'string') return isOf(value, type) ? [] : [`${at}: ${JSON.stringify(value)} is no ${type}`]
  if (type.fullName === '.google.protobuf.Duration') return typeof value === 'string' && /^\d+(\.\d+)?s$/.test(value) ? [] : [`${at}: ${String(value)} is no duration`]
  if (/^\.google\.protobuf\.\w+Value$/.test(type.fullName)) return faults(value, type.fields.value?.type ?? '', at)
  if (typeof value !== 'object' || value === null) return [`${at}: ${JSON.stringify(value)} is no ${type.fullName}`]
  if (type.fullName === '.google.protobuf.Any') {
    const { '@type': url = '', ...rest } = value as Record<string, unknown>
    const name = String(url).replace('type.googleapis.com/', '')
    const inner = api.lookup(name)
    return inner instanceof protobuf.Type ? faults(rest, inner, at) : [`${at}: no such type ${name}`]
  }
  return Object.entries(value).flatMap(([key, content]) => {
    const path = `${at}.${key}`
    const field = type.fields[key]
    if (field === undefined) return [`${path}: no such field of ${type.fullName}`]
    const inner = field.resolvedType ?? field.type
    if (!field.repeated && !field.map) return faults(content, inner, path)
    return Object.entries(content as object).flatMap(([index, each]) => faults(each, inner, `${path}.${index}`))
  })
}

function isOf (value: unknown, type: string): boolean {
  if (type === 'string' || type === 'bytes') return typeof value === 'string'
  if (type === 'bool') return typeof value === 'boolean'
  return typeof value === 'number' && (/^(double|float)$/.test(type) || Number.isInteger(value))
}
