-- The values of settings that the server was started with on its command line.
SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY ($1)
