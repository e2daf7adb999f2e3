# The service for compose and Kubernetes. It has the sources, because Node strips the types itself.
FROM node:24-bookworm-slim AS build
WORKDIR /app
# These files first, so that a change of the sources does not install the dependencies again.
COPY package.json package-lock.json .npmrc ./
COPY plugins/drain/package.json plugins/drain/
COPY verify/package.json verify/
# The optional ones are a Postgres and a Node for developers.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=optional --ignore-scripts
COPY . .
RUN npm run build --workspace=fastify-drain && npx prisma generate
# Only production's dependencies. Optional peers would keep Prisma's CLI and TypeScript, the workspace verify its own.
RUN rm -r verify && npm prune --omit=dev --omit=optional --ignore-scripts
# Prisma brings a query compiler for each kind of database; the generated client loads only this one.
RUN find node_modules/@prisma/client/runtime -name 'query_compiler_*' ! -name 'query_compiler_fast_bg.postgresql.*' -delete
# With a strict umask a clone's files are closed to other users, and the service runs as another user.
RUN find . -path ./node_modules -prune -o -exec chmod a+rX {} +

FROM node:24-bookworm-slim
LABEL org.opencontainers.image.title="last-orders" \
      org.opencontainers.image.description="An order service on Fastify, Prisma and Postgres that loses nothing when it is told to stop" \
      org.opencontainers.image.licenses="MIT"
# A container installs nothing.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn* /opt/yarn*
WORKDIR /app
COPY --from=build /app ./
# The commit: docker build --build-arg REVISION=$(git rev-parse --short HEAD)
ARG REVISION
# Nobody outside a container can reach its loopback. The network decides who reaches the ops port.
ENV NODE_ENV=production HOST=0.0.0.0 OPS_HOST=0.0.0.0 REVISION=$REVISION
# By number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
# For clients that wait until orders can be placed. Swarm replaces an unhealthy container, so ask /livez there: a short outage of the
# database must not restart every instance. On the ops port, because a crowd of clients cannot fill it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 \
  CMD ["node", "-e", "process.exit((await fetch(`http://127.0.0.1:${process.env.OPS_PORT || 3001}/readyz`)).ok ? 0 : 1)"]
# node is process 1 and gets the signals itself. Why V8's young generation (MiB) has these settings: docs/performance.md.
CMD ["node", "--min-semi-space-size=64", "--no-allocation-site-pretenuring", "server.ts"]
