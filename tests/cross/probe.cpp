// Builds where a compiler, its standard library and the sanitizers asked for are all there.
#include <string>

int main(int argc, char**) { return std::string(static_cast<std::size_t>(argc), 'x').empty() ? 1 : 0; }
