# The service as compose and Kubernetes run it: its sources as they are, for Node strips the types itself.
FROM node:24-bookworm-slim AS build
WORKDIR /app
# What the dependencies hang on comes first: a change of the sources does not install them again.
COPY package.json package-lock.json .npmrc ./
COPY plugins/drain/package.json plugins/drain/
COPY verify/package.json verify/
# The optional ones are a Postgres and a Node for developers.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=optional --ignore-scripts
COPY . .
RUN npm run build --workspace=fastify-drain && npx prisma generate
# Production's dependencies alone. Optional peers would keep Prisma's CLI and TypeScript, the workspace verify its own.
RUN rm -r verify && npm prune --omit=dev --omit=optional --ignore-scripts
# Prisma brings a query compiler for each kind of database; the generated client loads this one.
RUN find node_modules/@prisma/client/runtime -name 'query_compiler_*' ! -name 'query_compiler_fast_bg.postgresql.*' -delete
# A clone of a careful umask keeps its files from other users, and the service is one.
RUN find . -path ./node_modules -prune -o -exec chmod a+rX {} +

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="last-orders" \
      org.opencontainers.image.description="An order service on Fastify, Prisma and Postgres that loses nothing when it is told to stop" \
      org.opencontainers.image.licenses="MIT"
# Nothing is installed in a container.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn* /opt/yarn*
WORKDIR /app
COPY --from=build /app ./
# The commit, as `docker build --build-arg REVISION=$(git rev-parse --short HEAD)` gives it.
ARG REVISION
# Loopback in a container is seen by nobody else. Who reaches the ops port is for the network to say.
ENV NODE_ENV=production HOST=0.0.0.0 OPS_HOST=0.0.0.0 REVISION=$REVISION
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
# For who waits until orders can be placed. Where an unhealthy container is replaced (Swarm), ask /livez: a database that is
# away for a moment must not restart every instance. At the ops port, which a crowd of clients does not fill.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
  CMD ["node", "-e", "process.exit((await fetch(`http://127.0.0.1:${process.env.OPS_PORT || 3001}/readyz`)).ok ? 0 : 1)"]
# node is process 1 and gets the signals itself. Why V8's young generation (MiB) has these settings: docs/performance.md.
CMD ["node", "--min-semi-space-size=64", "--no-allocation-site-pretenuring", "server.ts"]
