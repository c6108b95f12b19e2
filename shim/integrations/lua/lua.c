/*
 * A stand-alone interpreter for the library that the crate lua-src carries (it has no
 * lua.c). Used for the plain and for the annotated build alike; the one line that
 * differs, redmagic_start(), is nothing in the plain one (-DREDMAGIC_DISABLED).
 *
 *   lua [-e CHUNK] ... [SCRIPT [ARGUMENTS]]     SCRIPT may be -; without one, stdin is run
 *
 * Exit status, messages and tracebacks are those of PUC Lua's own lua.c.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"
#include "redmagic.h"

static lua_State *global_state;
static const char *program = "lua";

static void stop_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

/* Ctrl-C: the next instruction raises an error. A second one kills. */
static void on_interrupt(int number) {
  int all = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
  signal(number, SIG_DFL);
  lua_sethook(global_state, stop_hook, all, 1);
}

static int message_handler(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (message == NULL) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
      return 1;
    message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  luaL_traceback(L, L, message, 1);
  return 1;
}

static int report(lua_State *L, int status) {
  if (status != LUA_OK) {
    const char *message = lua_tostring(L, -1);
    lua_writestringerror("%s: ", program);
    lua_writestringerror("%s\n", message ? message : "(error message not a string)");
    lua_pop(L, 1);
  }
  return status;
}

static int call(lua_State *L, int arguments) {
  int status, base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, message_handler);
  lua_insert(L, base);
  global_state = L;
  signal(SIGINT, on_interrupt);
  status = lua_pcall(L, arguments, 0, base);
  signal(SIGINT, SIG_DFL);
  lua_remove(L, base);
  return status;
}

static int run(lua_State *L) {
  int argc = (int)lua_tointeger(L, 1), script = 1, i, status = LUA_OK;
  char **argv = (char **)lua_touserdata(L, 2);
  luaL_checkversion(L);
  luaL_openlibs(L);
  while (script + 1 < argc && strcmp(argv[script], "-e") == 0)
    script += 2;
  lua_createtable(L, argc, script + 1);
  for (i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
  for (i = 1; status == LUA_OK && i < script; i += 2) {
    status = luaL_loadbuffer(L, argv[i + 1], strlen(argv[i + 1]), "=(command line)");
    status = report(L, status != LUA_OK ? status : call(L, 0));
  }
  if (status == LUA_OK && (script < argc || script == 1)) {
    const char *file = script < argc ? argv[script] : NULL;
    status = luaL_loadfile(L, file != NULL && strcmp(file, "-") == 0 ? NULL : file);
    if (status == LUA_OK) {
      for (i = script + 1; i < argc; i++)
        lua_pushstring(L, argv[i]);
      status = call(L, argc > script + 1 ? argc - script - 1 : 0);
    }
    report(L, status);
  }
  lua_pushboolean(L, status == LUA_OK);
  return 1;
}

int main(int argc, char **argv) {
  lua_State *L;
  int status, good;
  redmagic_start();
  if (argc > 0 && argv[0] != NULL)
    program = argv[0];
  L = luaL_newstate();
  if (L == NULL) {
    fprintf(stderr, "%s: cannot create state: not enough memory\n", program);
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, run);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  status = lua_pcall(L, 2, 1, 0);
  good = lua_toboolean(L, -1);
  report(L, status);
  lua_close(L);
  return status == LUA_OK && good ? EXIT_SUCCESS : EXIT_FAILURE;
}
