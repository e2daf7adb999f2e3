/** The parts of an OpenAPI document that the fuzzer reads. */
export interface Document {
  paths: Record<string, Record<string, {
    parameters?: Parameter[]
    requestBody?: { content: Record<string, { schema: Schema }> }
    responses: Record<string, Response>
  }>>
  components: { schemas?: Record<string, Schema> }
}

export interface Parameter { name: string, in: 'path' | 'query' | 'header', required?: boolean, schema?: Schema }

export interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  anyOf?: Schema[]
  oneOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minItems?: number
  maxItems?: number
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  format?: string
}

interface Response { content?: Record<string, { schema: Schema }> }

export interface Operation {
  /** Such as `GET /orders/{id}`. */
  name: string
  method: string
  path: string
  parameters: Parameter[]
  body: Schema | undefined
}

export function operationsOf (document: Document): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, { parameters = [], requestBody }]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    parameters,
    body: requestBody?.content['application/json']?.schema
  })))
}
