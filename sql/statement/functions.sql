-- The functions and operators of one database, by schema, name and owning extension, each with whether any of that name
-- may do more than compute. An aggregate is as volatile as the functions that it is built of (pg_proc calls every
-- aggregate immutable); an operator is as volatile as its function. Columns: schema, name, extension, operator, volatile.
--
-- Trigger functions are left out: no statement can call them.
WITH owned AS (
    SELECT d.classid, d.objid, e.extname
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND d.deptype = 'e'
      AND d.classid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
), functions AS (
    SELECT p.oid, p.pronamespace, p.proname,
           p.provolatile = 'v' OR EXISTS (
               SELECT
               FROM pg_catalog.pg_aggregate a
               JOIN pg_catalog.pg_proc s ON s.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn,
                   a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
               WHERE a.aggfnoid = p.oid AND s.provolatile = 'v') AS volatile
    FROM pg_catalog.pg_proc p
    WHERE p.prorettype NOT IN ('pg_catalog.trigger'::pg_catalog.regtype, 'pg_catalog.event_trigger'::pg_catalog.regtype)
)
SELECT n.nspname::text, f.proname::text, COALESCE(o.extname::text, ''), false, pg_catalog.bool_or(f.volatile)
FROM functions f
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
LEFT JOIN owned o ON o.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND o.objid = f.oid
GROUP BY 1, 2, 3
UNION ALL
SELECT n.nspname::text, op.oprname::text, COALESCE(o.extname::text, ''), true, pg_catalog.bool_or(COALESCE(f.volatile, true))
FROM pg_catalog.pg_operator op
JOIN pg_catalog.pg_namespace n ON n.oid = op.oprnamespace
LEFT JOIN functions f ON f.oid = op.oprcode
LEFT JOIN owned o ON o.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.objid = op.oid
WHERE op.oprcode <> 0 -- not yet defined
GROUP BY 1, 2, 3
