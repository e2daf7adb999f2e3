SET lock_timeout = '1s';

-- Which environment this database is of, in one row. Empty until a migrator runs that is of one (prisma/environment.ts).
CREATE TABLE "environment" (
    "id" BOOLEAN NOT NULL DEFAULT true,
    "name" TEXT NOT NULL,
    "named_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "environment_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "environment_one_row" CHECK ("id")
);

-- Whoever may place orders may see where.
--
-- safe-because: it gives a right to a table of this migration, and takes none away
DO $$
DECLARE
  writer text;
BEGIN
  FOR writer IN
    SELECT DISTINCT CASE right_to.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(right_to.grantee)) END
      FROM (
        SELECT (aclexplode(relacl)).* FROM pg_class WHERE oid = 'orders'::regclass
        UNION ALL
        SELECT (aclexplode(attacl)).* FROM pg_attribute WHERE attrelid = 'orders'::regclass
      ) right_to
     WHERE right_to.privilege_type = 'INSERT'
  LOOP
    EXECUTE 'GRANT SELECT ON environment TO ' || writer;
  END LOOP;
END $$;
