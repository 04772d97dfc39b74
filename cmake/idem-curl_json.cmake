# Makes idem::curl_json of libcurl and nlohmann-json, unless it is there already or one of them can't be found;
# idem_curl_json_missing says why.
if(NOT TARGET idem::curl_json)
  find_package(CURL QUIET)
  find_package(nlohmann_json QUIET)
  if(TARGET CURL::libcurl AND TARGET nlohmann_json::nlohmann_json)
    add_library(idem::curl_json INTERFACE IMPORTED GLOBAL)
    # By their names, so that whoever has them elsewhere is asked where.
    target_link_libraries(idem::curl_json INTERFACE CURL::libcurl nlohmann_json::nlohmann_json)
  else()
    set(idem_curl_json_missing "libcurl or nlohmann-json is not found (Debian: libcurl4-openssl-dev, nlohmann-json3-dev); \
CURL_LIBRARY, CURL_INCLUDE_DIR and nlohmann_json_DIR say where they are")
  endif()
endif()
